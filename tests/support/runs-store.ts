import type { Backend } from '../../core/backends.ts';
import type { JobRef } from '../../core/objects.ts';
import { openRuns } from '../../core/runs/open-runs.ts';
import { nextTask } from '../../core/tasks/next-task.ts';
import type { Outcome } from '../../core/tasks/outcome.ts';
import { CPU_QUEUE, taskRef } from '../../core/tasks/task.ts';
import type { WorkerContext } from '../../core/tasks/worker-context.ts';
import { reconcile } from '../../cpu-service/reconcile.ts';
import { startRun } from '../../cpu-service/start-run.ts';
import { stopRun } from '../../cpu-service/stop-run.ts';
import { agedRecords } from './aged-records.ts';
import { type FakeExecution, type FakeRunApi, startFakeRunApi } from './fake-run-api/fake-run-api.ts';
import { makeWorkerStore, type WorkerStore } from './worker-store.ts';

const PLACE = 'projects/p/locations/l';
export const CLOUD_RUN_JOB = {
  name: 'gpu-job',
  kind: 'cloud-run-job',
  tier: 'premium',
  job: `${PLACE}/jobs/gpu-job`,
} as const satisfies Backend;
export const VERTEX = {
  name: 'vertex',
  kind: 'vertex-job',
  tier: 'premium',
  job: PLACE,
  spec: { workerPoolSpecs: [{ containerSpec: { imageUri: 'gpu' } }] },
} as const satisfies Backend;
export const SERVICE = {
  name: 'service',
  kind: 'cloud-run-service',
  tier: 'premium',
  url: 'https://gpu.example',
} as const satisfies Backend;

const never = new AbortController().signal;

/** The local adapters, with backends that are started through a fake of their APIs. */
export interface RunsStore extends WorkerStore {
  fake: FakeRunApi;
  /** A job that has been through ingest, with its task on its queue. */
  submitTo(backend: string): Promise<JobRef>;
  /** Those that are pending or running. */
  living(): FakeExecution[];
  /** As cpu-service does what is due on its queue, and what it enqueues by that; what is delayed stays. */
  workOff(context?: WorkerContext): Promise<Outcome[]>;
  /** The same store, as if nothing had been written for so long. */
  later(ms: number): WorkerContext;
  reconcile(context?: WorkerContext): Promise<void>;
}

export async function makeRunsStore(backends: readonly Backend[]): Promise<RunsStore> {
  const fake = await startFakeRunApi({ jobs: [CLOUD_RUN_JOB.job] });
  const base = await makeWorkerStore();
  const store: RunsStore = {
    ...base,
    backends,
    runs: openRuns(backends, { runApiEndpoint: fake.url, vertexApiEndpoint: fake.url }),
    fake,
    async submitTo(backend) {
      const job = await store.submitDecoded(backend);
      await store.change(job, (record) => {
        record.task = taskRef(nextTask(backends, record));
      });
      await store.queue.enqueue(nextTask(backends, await store.record(job)));
      return job;
    },
    living: () => fake.executions.filter(({ state }) => state === 'pending' || state === 'running'),
    async workOff(context = store) {
      const outcomes: Outcome[] = [];
      const postponed: string[] = [];
      for (;;) {
        const delivery = store.queue.take(CPU_QUEUE, 60_000);
        if (delivery === undefined) break;
        const { payload } = delivery.task;
        const outcome =
          payload.type === 'start-run'
            ? await startRun(context, payload)
            : payload.type === 'stop-run'
              ? await stopRun(context, payload)
              : ({ kind: 'done' } as const);
        outcomes.push(outcome);
        if (outcome.kind === 'retry') postponed.push(delivery.receipt);
        else store.queue.acknowledge(delivery.receipt);
      }
      for (const receipt of postponed) store.queue.putBack(receipt, 0);
      return outcomes;
    },
    later: (ms) => ({ ...store, records: agedRecords(store.records, ms) }),
    reconcile: async (context = store) => {
      await reconcile(context, { type: 'reconcile' }, never);
    },
    async remove() {
      await base.remove();
      await fake.close();
    },
  };
  return store;
}
