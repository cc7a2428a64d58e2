import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { expect, test } from '@jest/globals';
import type { JobBackend } from '../backends.ts';
import { CloudRunJobs } from './cloud-run-jobs.ts';
import { GoogleApi } from './google-api.ts';
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

test.each([
  ['CONDITION_FAILED', 'ended'],
  ['CONDITION_SUCCEEDED', 'ended'],
  ['CONDITION_PENDING', 'pending'],
])(
  'an execution whose condition Completed is %s and that has no time of completion is %s',
  async (state, expected) => {
    const execution = { name: 'x', conditions: [{ type: 'Completed', state }] };
    const server = createServer((_, res) => void res.end(JSON.stringify(execution)));
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const origin = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
    const api = new GoogleApi({ origin, authorize: async () => ({}) });
    expect(await new CloudRunJobs(api, 'projects/p/locations/l/jobs/j').state('x')).toBe(expected);
    server.closeAllConnections();
    server.close();
  },
);
