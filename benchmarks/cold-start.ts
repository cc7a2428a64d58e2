import { loadavg } from 'node:os';
import { readInstallation } from '../core/installation.ts';
import type { ColdStart, JobRecord } from '../core/job.ts';
import { sampleRecording } from '../core/sample-recording.ts';
import { OWNER, startCloud } from '../tests/support/cloud.ts';
import { submit, waitUntilSettled } from '../tests/support/submit.ts';
import { waitFor } from '../tests/support/wait-for.ts';
import { machineFacts } from './machine.ts';
import { median } from './median.ts';
import { printFacts, printTable } from './print-table.ts';
import { writeResults } from './results.ts';

const RUNS = 5;

/**
 * A job that waits in its queue while no gpu-service is there, and then one is started: the parts that the job records.
 * Services of their own, the real sidecar and the packaged model, fakes of Cloud Storage and Cloud Tasks.
 */
export async function benchColdStart({ runs = RUNS }: { runs?: number }): Promise<void> {
  const { packaged_model, python } = readInstallation();
  const sample = sampleRecording(python);
  const cloud = await startCloud();
  const found: { load: number; metrics: JobRecord['metrics'] }[] = [];
  try {
    for (let run = 0; run < runs; run++) {
      const [instance] = cloud.instances('gpu-service');
      if (instance !== undefined) {
        cloud.forget('gpu-service', instance);
        await instance.stop();
      }
      const { id } = await submit(cloud.client, sample, { language: 'en' });
      const job = { owner: OWNER, id };
      await waitFor('ingest', async () => {
        const { objects, lease } = await cloud.record(job);
        return objects.audio !== null && lease === null;
      });
      const load = loadavg()[0] ?? Number.NaN;
      await cloud.start('gpu-service');
      const { status } = await waitUntilSettled(cloud.client, id, 180_000);
      if (status !== 'completed') throw new Error(`the job is ${status}`);
      const { metrics } = await cloud.record(job);
      found.push({ load, metrics });
      console.error(
        `run ${run + 1}: ready after ${metrics.cold_start?.ready_seconds} s, load ${load.toFixed(1)}`,
      );
    }
  } finally {
    await cloud.stop();
  }
  const machine = machineFacts();
  await writeResults('cold-start', { machine, model: packaged_model.name, found });
  print(machine, packaged_model.name, found);
}

function print(
  machine: Record<string, string | number>,
  model: string,
  found: readonly { load: number; metrics: JobRecord['metrics'] }[],
): void {
  printFacts({ ...machine, model, load: found.map(({ load }) => load.toFixed(1)).join(' ') });
  const starts = found.map(({ metrics }) => metrics.cold_start).filter((start) => start !== null);
  const parts = Object.keys(starts[0] ?? {}).filter((name) => name !== 'instance') as Exclude<
    keyof ColdStart,
    'instance'
  >[];
  printTable(
    ['part', 'median', 'least to most'],
    [
      ...parts.flatMap((part) =>
        row(
          part,
          starts.map((start) => start[part]),
        ),
      ),
      ...row(
        'cold_start_seconds',
        found.map(({ metrics }) => metrics.cold_start_seconds),
      ),
    ],
  );
}

/** None where nobody knows. */
function row(name: string, values: readonly (number | null)[]): string[][] {
  const known = values.filter((value) => value !== null);
  if (known.length === 0) return [];
  const [middle, least, most] = [median(known), Math.min(...known), Math.max(...known)].map((value) =>
    value.toFixed(2),
  );
  return [[`\`${name}\``, `${middle} s`, `${least} to ${most} s`]];
}
