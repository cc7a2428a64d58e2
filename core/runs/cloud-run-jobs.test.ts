import type { JobBackend } from '../backends.ts';
import { CloudRunJobs } from './cloud-run-jobs.ts';
import { describeRuns } from './runs.contract.ts';

const backend = (name: string): JobBackend => ({
  name,
  kind: 'cloud-run-job',
  tier: 'premium',
  job: `projects/p/locations/l/jobs/${name}`,
});

describeRuns(
  'CloudRunJobs',
  [backend('gpu-job'), backend('other')],
  (api, { job }) => new CloudRunJobs(api, job),
);
