import { expect, test } from '@jest/globals';
import { startFakeRunApi } from '../../tests/support/fake-run-api/fake-run-api.ts';
import type { JobBackend } from '../backends.ts';
import { GoogleApi } from './google-api.ts';
import { describeRuns } from './runs.contract.ts';
import { VertexJobs } from './vertex-jobs.ts';

type VertexBackend = Extract<JobBackend, { kind: 'vertex-job' }>;

const backend = (name: string): VertexBackend => ({
  name,
  kind: 'vertex-job',
  tier: 'premium',
  job: 'projects/p/locations/l',
  spec: {
    workerPoolSpecs: [
      {
        machineSpec: { machineType: 'g2-standard-8', acceleratorType: 'NVIDIA_L4', acceleratorCount: 1 },
        replicaCount: '1',
        containerSpec: { imageUri: 'gpu', env: [{ name: 'BACKEND', value: name }] },
      },
    ],
    scheduling: { strategy: 'FLEX_START', maxWaitDuration: '3600s', disableRetries: true },
    serviceAccount: 'gpu@p.iam.gserviceaccount.com',
  },
});

describeRuns(
  'VertexJobs',
  [backend('vertex'), backend('other')],
  (api, one) => new VertexJobs(api, one as VertexBackend),
);

test('a custom job is made of the spec as it is, spot or flex-start with it, and of the task', async () => {
  const fake = await startFakeRunApi();
  const api = new GoogleApi({ origin: fake.url, authorize: async () => ({}) });
  const one = backend('vertex');
  const before = structuredClone(one);
  const job = { owner: 'local', id: 'tr_0123456789abcdefghj' };
  await new VertexJobs(api, one).start('run-1', { type: 'transcribe', job, part: 2 });
  await fake.close();
  expect(one).toEqual(before);
  const [pool] = one.spec.workerPoolSpecs ?? [];
  const value = JSON.stringify({ type: 'transcribe', job, part: 2, run: 'run-1' });
  expect(fake.executions[0]?.request).toEqual({
    displayName: 'zeroscribe run-1',
    labels: { zeroscribe_run: 'run-1', zeroscribe_backend: 'vertex' },
    jobSpec: {
      ...one.spec,
      workerPoolSpecs: [
        {
          ...pool,
          containerSpec: {
            imageUri: 'gpu',
            env: [
              { name: 'BACKEND', value: 'vertex' },
              { name: 'RUN_TASK', value },
            ],
          },
        },
      ],
    },
  });
});
