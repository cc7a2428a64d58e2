import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from '@jest/globals';
import type { Backend } from '../backends.ts';
import { type JobRecord, JobRecord as Schema } from '../job.ts';
import { newJobId } from '../objects.ts';
import { parseOptions } from '../options.ts';
import { newJobRecord } from '../tasks/new-job.ts';
import { jobCost, settleCost } from './job-cost.ts';
import { PRICES } from './prices.ts';
import { instanceUsageOf, usageOf } from './usage.ts';

const SHAPE = { region: 'europe-west1', gpu: 'nvidia-l4', vcpu: 8, memory_gib: 32 };
const JOB = 'projects/p/locations/europe-west4/jobs/j';
const SERVICE: Backend = {
  name: 'gpu',
  kind: 'cloud-run-service',
  tier: 'premium',
  url: 'https://gpu.example',
  shape: SHAPE,
};
const RUN: Backend = { name: 'gpu-job', kind: 'cloud-run-job', tier: 'premium', job: JOB, shape: SHAPE };
const vertex = (shape: Record<string, unknown>): Backend => ({
  name: 'vertex',
  kind: 'vertex-job',
  tier: 'premium',
  job: 'projects/p/locations/us-east4',
  spec: {},
  shape,
});
const SERVER: Backend = { name: 'server', kind: 'server', tier: 'premium', url: 'https://gpu.example' };
const VOXTRAL: Backend = { name: 'voxtral', kind: 'voxtral', tier: 'standard' };
const STANDALONE: Backend = { name: 'standalone', kind: 'standalone', tier: 'premium' };
/** Of an L4 with 8 vCPU and 32 GiB. */
const USD_PER_SECOND = 0.0003947;

function recordOf(backend: string, change: (record: JobRecord) => void = () => {}): JobRecord {
  const record = newJobRecord(
    { owner: 'local', id: newJobId() },
    {
      ...parseOptions({}),
      source: {
        type: 'upload',
        address: null,
        filename: 'a.mp4',
        content_type: 'video/mp4',
        bytes: 2 ** 30,
        sha256: '',
      },
      routing: { chosen: backend, because: 'it comes first', alternatives: [] },
      model: null,
      idempotencyHash: null,
      nowMs: Date.now(),
    },
  );
  record.status = 'completed';
  change(record);
  return Schema.parse(record);
}

function used(backend: string, ...instances: { id: string; busy: number; cold: number }[]) {
  return recordOf(backend, (record) => {
    const usage = usageOf(record, backend);
    for (const { id, busy, cold } of instances) {
      usage.busy_seconds += busy;
      usage.cold_start_seconds += cold;
      Object.assign(instanceUsageOf(usage, id), { busy_seconds: busy, cold_start_seconds: cold });
    }
  });
}

const usdOf = (record: JobRecord, item: string, backends: readonly Backend[]) =>
  jobCost(record, { backends, prices: PRICES }).parts.find((part) => part.item === item)?.usd;

describe('the marginal cost', () => {
  test('of a service is its seconds with the start that it caused, and no tail', () => {
    const record = used('gpu', { id: 'a', busy: 20, cold: 10 }, { id: 'b', busy: 5, cold: 0 });
    expect(usdOf(record, 'instance', [SERVICE])).toBeCloseTo(35 * USD_PER_SECOND, 9);
  });

  test('of a Cloud Run job is what each of its runs is billed, a minute at least', () => {
    const record = used('gpu-job', { id: 'a', busy: 20, cold: 10 }, { id: 'b', busy: 100.02, cold: 10 });
    expect(usdOf(record, 'instance', [RUN])).toBeCloseTo((60 + 110.1) * USD_PER_SECOND, 9);
  });

  test.each([
    [{ machine_type: 'g2-standard-4', strategy: 'STANDARD' }, 0.81],
    [{ machine_type: 'g2-standard-8', strategy: 'SPOT' }, 0.39],
    [{}, 0.98],
  ])('of Vertex AI is that of its machine: %j', (shape, usdPerHour) => {
    const record = used('vertex', { id: 'a', busy: 3_590.5, cold: 9 });
    expect(usdOf(record, 'instance', [vertex(shape)])).toBeCloseTo(usdPerHour, 9);
  });

  test('of a server is nothing, because its rent is paid anyway', () => {
    expect(usdOf(used('server', { id: 'a', busy: 20, cold: 10 }), 'instance', [SERVER])).toBe(0);
  });

  test('of Voxtral is its audio, and what may have been paid besides is told apart', () => {
    const record = recordOf('voxtral', (one) => {
      Object.assign(usageOf(one, 'voxtral'), {
        busy_seconds: 10,
        api_audio_seconds: 600,
        unconfirmed_audio_seconds: 60,
      });
    });
    const cost = jobCost(record, { backends: [VOXTRAL], prices: PRICES });
    expect(cost.parts.map(({ item }) => item)).toEqual(['audio', 'calls', 'operations']);
    expect(cost.parts[0]).toMatchObject({ quantity: 600, unit: 'second', usd: 0.03 });
    expect(cost.unconfirmed_usd).toBeCloseTo(0.003, 9);
    expect(cost.attributed_usd).toBe(cost.marginal_usd);
  });

  test('of Voxtral is by the model that was asked, whatever did the job in the end', () => {
    const record = recordOf('gpu', (one) => {
      one.model = 'large-v3';
      const usage = {
        api_audio_seconds: 600,
        unconfirmed_audio_seconds: 60,
        model: 'voxtral-small-transcribe-3',
      };
      Object.assign(usageOf(one, 'voxtral'), usage);
    });
    const cost = jobCost(record, { backends: [VOXTRAL, SERVICE], prices: PRICES });
    const usdPerMinute = PRICES['voxtral-small-3'].usd;
    expect(usdPerMinute).not.toBe(PRICES['voxtral-mini'].usd);
    expect(cost.parts[0]?.usd).toBeCloseTo(10 * usdPerMinute, 9);
    expect(cost.unconfirmed_usd).toBeCloseTo(usdPerMinute, 9);
    expect(cost.basis).toContain('voxtral-small-3');
  });

  test('has ingest and operations in it, and what is kept as a rate', () => {
    const record = recordOf('gpu', (one) => {
      usageOf(one, 'cpu-service').busy_seconds = 100;
    });
    const cost = jobCost(record, { backends: [SERVICE], prices: PRICES });
    expect(cost.parts).toMatchObject([
      { item: 'ingest', backend: 'cpu-service', quantity: 100, unit: 'second', usd: 0.0058 },
      { item: 'operations', backend: null, unit: 'operation' },
    ]);
    expect(cost.marginal_usd).toBeCloseTo(0.0058 + (cost.parts[1]?.usd ?? 0), 9);
    expect(cost.storage_usd_per_month).toBeCloseTo(0.02, 5);
  });

  test('on one machine is nothing, but for what an API takes', () => {
    const record = recordOf('standalone', (one) => {
      Object.assign(usageOf(one, 'standalone'), { busy_seconds: 20, gpu_seconds: 20 });
      usageOf(one, 'cpu-service').busy_seconds = 2;
    });
    expect(jobCost(record, { backends: [STANDALONE], prices: PRICES })).toEqual({
      marginal_usd: 0,
      attributed_usd: 0,
      gpu_seconds: 20,
      unconfirmed_usd: 0,
      storage_usd_per_month: 0,
      parts: [],
      basis: 'your own machine',
    });
  });

  test('is by an operator’s own prices where there are some', () => {
    const own = { ...PRICES['voxtral-mini'], usd: 6, date: '2026-11-01' };
    const record = recordOf('voxtral', (one) => {
      usageOf(one, 'voxtral').api_audio_seconds = 60;
    });
    const cost = jobCost(record, { backends: [VOXTRAL], prices: { ...PRICES, 'voxtral-mini': own } });
    expect(cost.parts[0]?.usd).toBe(6);
    expect(cost.basis).toBe('voxtral-mini Mistral’s API 2026-11-01'.replace('’', "'"));
  });
});

test('the basis says by which prices, where, and of when', () => {
  const basis = (backend: Backend) =>
    jobCost(recordOf(backend.name), { backends: [backend], prices: PRICES }).basis;
  expect(basis(SERVICE)).toBe('cloud-run-l4 europe-west1 2026-10-01');
  expect(basis({ ...RUN, shape: {} })).toBe('cloud-run-l4 europe-west4 2026-10-01');
  expect(basis(vertex({ strategy: 'SPOT' }))).toBe('vertex-g2-standard-8-spot us-east4 2026-10-05');
});

test('the attributed cost of a run is known when its job has ended, that of a service not yet', () => {
  const own = used('gpu-job', { id: 'a', busy: 20, cold: 10 });
  settleCost(own, { backends: [RUN], prices: PRICES });
  expect(own.cost?.attributed_usd).toBe(own.cost?.marginal_usd);
  const shared = used('gpu', { id: 'a', busy: 20, cold: 10 });
  settleCost(shared, { backends: [SERVICE], prices: PRICES });
  expect(shared.cost).toMatchObject({ attributed_usd: null, gpu_seconds: 0 });
});

test('docs/costs.md shows the cost of such a job', () => {
  const page = readFileSync(join(import.meta.dirname, '../../docs/costs.md'), 'utf8');
  const { usage, cost } = JSON.parse(/```json\n([\s\S]*?)```/.exec(page)?.[1] ?? '');
  const record = recordOf('gpu', (one) => {
    one.source.bytes = 734_003_200;
    one.duration_seconds = 4_260.2;
    Object.assign(one.objects, { playback: 'media/a.mp3', transcript: 'transcripts/a.json' });
    one.usage = Schema.shape.usage.parse(usage);
    const gpu = usageOf(one, 'gpu');
    // What the page says of the instance's bill.
    Object.assign(instanceUsageOf(gpu, 'a'), { attributed_usd: 0.305893 });
  });
  settleCost(record, { backends: [SERVICE], prices: PRICES });
  expect(cost).toEqual(record.cost);
});
