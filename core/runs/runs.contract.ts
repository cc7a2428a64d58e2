import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { type FakeRunApi, startFakeRunApi } from '../../tests/support/fake-run-api/fake-run-api.ts';
import type { JobBackend } from '../backends.ts';
import type { TaskPayload } from '../tasks/task.ts';
import { GoogleApi } from './google-api.ts';
import { RunRefused, type Runs, RunUnclear } from './runs.ts';

const FAST = { attemptMs: 2_000, totalMs: 1_000, backoff: { minMs: 5, maxMs: 10, maxDoublings: 1 } };
const RUN = 'tr_0123456789abcdefghj-a1-p1-e1';
const TASK: TaskPayload = {
  type: 'transcribe',
  job: { owner: 'local', id: 'tr_0123456789abcdefghj' },
  part: 1,
};

/** What every adapter of Runs promises, against a fake of its API with two backends that share a project. */
export function describeRuns(
  name: string,
  [backend, other]: readonly [JobBackend, JobBackend],
  make: (api: GoogleApi, backend: JobBackend) => Runs,
): void {
  describe(name, () => {
    let fake: FakeRunApi;
    let runs: Runs;
    let others: Runs;
    beforeEach(async () => {
      fake = await startFakeRunApi({ jobs: [backend.job, other.job], pageSize: 2 });
      const api = new GoogleApi({ origin: fake.url, authorize: async () => ({}), patience: FAST });
      runs = make(api, backend);
      others = make(api, other);
    });
    afterEach(() => fake.close());

    const refusal = async (): Promise<RunRefused> => {
      const error = await runs.start(RUN, TASK).catch((reason: unknown) => reason);
      expect(error).toBeInstanceOf(RunRefused);
      return error as RunRefused;
    };

    test('starts an execution with the task in its environment, and finds it by its run', async () => {
      const execution = await runs.start(RUN, TASK);
      expect(fake.executions).toHaveLength(1);
      expect(JSON.parse(fake.executions[0]?.env.RUN_TASK as string)).toEqual({ ...TASK, run: RUN });
      expect(await runs.find(RUN)).toEqual([{ name: execution, state: 'pending' }]);
      expect(await runs.find(`${RUN}0`)).toEqual([]);
      expect(await others.find('another')).toEqual([]);
    });

    test('follows its states; one that is not there has ended', async () => {
      const execution = await runs.start(RUN, TASK);
      const [made] = fake.executions;
      if (made === undefined) throw new Error('nothing was started');
      expect(await runs.state(execution)).toBe('pending');
      made.state = 'running';
      expect(await runs.state(execution)).toBe('running');
      for (const state of ['succeeded', 'failed', 'canceled'] as const) {
        made.state = state;
        expect(await runs.state(execution)).toBe('ended');
      }
      fake.executions.length = 0;
      expect(await runs.state(execution)).toBe('ended');
    });

    test('lists those of its backend that are pending or running, over all pages', async () => {
      for (let n = 0; n < 5; n++) await runs.start(`${RUN}${n}`, TASK);
      await others.start(RUN, TASK);
      const started = Array.from({ length: 5 }, (_, n) => `${RUN}${n}`);
      expect((await runs.living()).toSorted()).toEqual(started);
      const [first, second] = fake.executions;
      Object.assign(first as object, { state: 'running' });
      Object.assign(second as object, { state: 'failed' });
      expect((await runs.living()).toSorted()).toEqual(started.toSpliced(1, 1));
      expect(await others.living()).toEqual([RUN]);
      expect(await runs.find(`${RUN}0`)).toMatchObject([{ state: 'running' }]);
    });

    test('cancels what is pending or running, and has nothing against what has ended or is gone', async () => {
      const execution = await runs.start(RUN, TASK);
      await runs.cancel(execution);
      expect(fake.executions[0]?.state).toBe('canceled');
      await runs.cancel(execution);
      fake.executions.length = 0;
      await runs.cancel(execution);
    });

    test.each([
      [
        429,
        'The following quota metrics exceed quota limits: aiplatform.googleapis.com/custom_model_training_nvidia_l4_gpus',
      ],
      [429, 'Quota exceeded for total allowable count of GPUs per project per region.'],
      [400, 'unable to offer GPU enabled instances with zonal redundancy due to capacity limitations'],
      [503, 'Resources are insufficient in region: europe-west1. Please try a different region.'],
      [409, 'Conflict for resource'],
    ])('takes %d %j for a lack of room, and starts nothing', async (status, message) => {
      fake.inject({ operation: 'start', kind: 'refuse', status, message });
      expect(await refusal()).toMatchObject({ refusal: 'busy', isPassing: true });
      expect(fake.executions).toHaveLength(0);
    });

    test.each([
      [403, "Permission 'run.jobs.runWithOverrides' denied on resource (or it may not exist).", 'forbidden'],
      [403, 'Vertex AI API has not been used in project 1 before or it is disabled.', 'forbidden'],
      [401, 'Request had invalid authentication credentials.', 'forbidden'],
      [403, 'Request had insufficient authentication scopes.', 'forbidden'],
      [403, "Permission 'run.jobs.run' denied on resource 'projects/p/jobs/capacity'.", 'forbidden'],
      [404, "Resource 'quota' of kind 'JOB' in region 'l' in project 'p' does not exist.", 'missing'],
      [404, "Resource 'j' of kind 'JOB' in region 'l' in project 'p' does not exist.", 'missing'],
      [400, 'Machine type "g2-standard-7" is not supported.', 'invalid'],
    ])('takes %d %j for hopeless', async (status, message, kind) => {
      fake.inject({ operation: 'start', kind: 'refuse', status, message });
      const error = await refusal();
      expect(error).toMatchObject({ refusal: kind, isPassing: false });
      expect(error.message).toContain(message);
    });

    test('says when nobody knows whether it was started, and does not start it twice', async () => {
      fake.inject({ operation: 'start', kind: 'lose-reply' });
      await expect(runs.start(RUN, TASK)).rejects.toBeInstanceOf(RunUnclear);
      expect(await runs.find(RUN)).toHaveLength(1);
      fake.inject({
        operation: 'start',
        kind: 'refuse',
        status: 503,
        message: 'The service is unavailable.',
      });
      await expect(runs.start(`${RUN}1`, TASK)).rejects.toBeInstanceOf(RunUnclear);
      expect(await runs.find(`${RUN}1`)).toEqual([]);
    });

    test.each([
      ['get', 503],
      ['list', 429],
      ['cancel', 500],
    ] as const)('asks again when a %s is refused with %d', async (operation, status) => {
      const execution = await runs.start(RUN, TASK);
      fake.inject({ operation, kind: 'refuse', status, times: 2 });
      if (operation === 'get') expect(await runs.state(execution)).toBe('pending');
      if (operation === 'list') expect(await runs.living()).toEqual([RUN]);
      if (operation === 'cancel') {
        await runs.cancel(execution);
        expect(fake.executions[0]?.state).toBe('canceled');
      }
    });

    test('gives up in the end, and does not ask again what is hopeless', async () => {
      fake.inject({ operation: 'list', kind: 'refuse', status: 503, times: 10_000 });
      await expect(runs.find(RUN)).rejects.toThrow('failed with 503');
      fake.clearFaults();
      fake.calls.length = 0;
      fake.inject({ operation: 'list', kind: 'refuse', status: 403, message: 'no', times: 10_000 });
      await expect(runs.find(RUN)).rejects.toThrow('failed with 403');
      expect(fake.calls).toHaveLength(1);
    });

    test.each(['{"error":"quota"}', '{"error":null}', 'null', '<html>'])(
      'passes on a refusal in other words: %s',
      async (text) => {
        fake.inject({ operation: 'start', kind: 'refuse', status: 403, body: text });
        expect((await refusal()).message).toContain(`failed with 403: ${text}`);
      },
    );

    test('says when an answer names nothing that was started', async () => {
      fake.inject({ operation: 'start', kind: 'refuse', status: 200, body: '{}' });
      await expect(runs.start(RUN, TASK)).rejects.toBeInstanceOf(RunUnclear);
    });

    test('tells nothing of a token that an answer quotes', async () => {
      const message = 'Invalid: ya29.a0Af_secret, Bearer abc-secret {"access_token":"secret"}';
      fake.inject({ operation: 'start', kind: 'refuse', status: 401, message });
      const error = await refusal();
      expect(`${error.stack} ${JSON.stringify(error)}`).not.toContain('secret');
      expect(error.message).toContain('[token]');
    });
  });
}
