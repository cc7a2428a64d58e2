import type { DatabaseSync } from 'node:sqlite';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import type { Backend } from '../backends.ts';
import { writeCapabilities } from '../capabilities.ts';
import { PRICES } from '../costs/prices.ts';
import { instanceKey, newJobId } from '../objects.ts';
import { parseOptions } from '../options.ts';
import { SqliteRecords } from '../records/sqlite-records.ts';
import { openDatabase } from '../sqlite.ts';
import { newJobRecord } from '../tasks/new-job.ts';
import { chooseBackend, route, type ToRoute, toRoute } from './choose-backend.ts';

const HOUR = 3_600;
const service: Backend = {
  name: 'service',
  kind: 'cloud-run-service',
  tier: 'premium',
  url: 'https://gpu.example',
  max_duration_seconds: 2 * HOUR,
};
const job: Backend = {
  name: 'job',
  kind: 'cloud-run-job',
  tier: 'premium',
  job: 'projects/p/locations/l/jobs/j',
  min_duration_seconds: 60,
  max_duration_seconds: 10 * HOUR,
};
const cheap: Backend = { name: 'cheap', kind: 'voxtral', tier: 'standard' };
const server: Backend = { name: 'server', kind: 'server', tier: 'premium', url: 'https://gpu2.example' };

const premium = { tier: 'premium', durationSeconds: null } as const;

describe('route', () => {
  test('takes the first of the tier, and names the others', () => {
    expect(route([cheap, service, job], premium)).toEqual({
      chosen: 'service',
      tier: 'premium',
      because: 'it comes first in BACKENDS',
      alternatives: ['job'],
      estimates: [],
    });
  });

  test('says when there is nothing to choose from', () => {
    expect(route([server], premium).because).toBe('it is the only backend of this service');
    expect(route([cheap, server], premium).because).toBe('it is the only backend of the tier premium');
  });

  test.each([
    [10, 'service', 'it comes first in BACKENDS', []],
    [2 * HOUR, 'service', 'it comes first in BACKENDS', ['job']],
    [2 * HOUR + 1, 'job', 'service takes no recordings longer than 2 h', []],
  ])('sends %d seconds to %s because %s', (durationSeconds, chosen, because, alternatives) => {
    const routing = route([service, job], { tier: 'premium', durationSeconds });
    expect(routing).toEqual({ chosen, tier: 'premium', because, alternatives, estimates: [] });
  });

  test('gives the reasons against all that come before', () => {
    const passedOver = [{ backend: 'job', because: 'has no capacity at the moment' }];
    const routing = route([service, job, server], { tier: 'premium', durationSeconds: 3 * HOUR, passedOver });
    expect(routing).toEqual({
      chosen: 'server',
      tier: 'premium',
      because: 'service takes no recordings longer than 2 h; job has no capacity at the moment',
      alternatives: [],
      estimates: [],
    });
  });

  test('falls back to the tier below only when the job may', () => {
    const passedOver = [{ backend: 'service', because: 'did not start it' }];
    const mayFall = { ...premium, allowFallback: true };
    expect(route([cheap, service], mayFall)).toMatchObject({ chosen: 'service', alternatives: ['cheap'] });
    expect(route([cheap, service], { ...mayFall, passedOver })).toEqual({
      chosen: 'cheap',
      tier: 'standard',
      because: 'service did not start it',
      alternatives: [],
      estimates: [],
    });
  });

  test('never leaves the tier', () => {
    const passedOver = [{ backend: 'service', because: 'did not start it' }];
    expect(() => route([cheap, service], { ...premium, passedOver })).toThrow(
      expect.objectContaining({ slug: 'no-backend' }),
    );
    expect(() => route([cheap], premium)).toThrow('This service has no backend of the tier premium.');
  });

  test('says whose limits the recording lies outside of', () => {
    expect(() => route([service, job], { tier: 'premium', durationSeconds: 10.5 * HOUR })).toThrow(
      'No backend takes this recording of 10 h 30 min: service takes no recordings longer than 2 h; job takes no recordings longer than 10 h.',
    );
    expect(() => route([job], { tier: 'premium', durationSeconds: 2.5 })).toThrow(
      'No backend takes this recording of 2.5 s: job takes no recordings shorter than 60 s.',
    );
  });
});

describe('chooseBackend', () => {
  const english = { name: 'tiny.en', is_multilingual: false, can_translate: false };
  const capabilities = { default_model: 'tiny.en', models: [english], alignment_languages: [] };
  const options = (fields: Record<string, unknown>) => ({ ...parseOptions(fields), durationSeconds: null });
  let database: DatabaseSync;
  let records: SqliteRecords;

  beforeEach(async () => {
    database = openDatabase(':memory:');
    records = new SqliteRecords(database);
    await writeCapabilities(records, 'service', { ...capabilities, can_diarize: false });
  });
  afterEach(() => database.close());

  test('believes a backend that has said nothing yet, and so knows no model', async () => {
    const choice = await chooseBackend({ records, backends: [server] }, options({ model: 'huge' }));
    expect(choice).toMatchObject({ routing: { chosen: 'server' }, model: null });
  });

  test('passes over a backend whose models cannot do what is asked for', async () => {
    const backends = [service, job];
    expect(await chooseBackend({ records, backends }, options({}))).toMatchObject({
      routing: { chosen: 'service', alternatives: ['job'] },
      model: 'tiny.en',
    });
    expect(await chooseBackend({ records, backends }, options({ diarize: true }))).toMatchObject({
      routing: { chosen: 'job', because: 'service has no model for what was asked', alternatives: [] },
      model: null,
    });
  });

  test('refuses as the first backend would when none can', async () => {
    await writeCapabilities(records, 'job', { ...capabilities, default_model: 'x', can_diarize: true });
    const choice = chooseBackend({ records, backends: [service, job] }, options({ diarize: true }));
    await expect(choice).rejects.toMatchObject({
      slug: 'diarization-not-configured',
      extensions: { field: 'diarize' },
    });
  });

  describe('for a job whose length is known', () => {
    const gpu: Backend = { ...service, max_running: 3 };
    const machine: Backend = { ...job, min_duration_seconds: 0 };
    const backends = [gpu, machine, cheap];
    const of = (seconds: number, fields: Record<string, unknown> = {}, requestedMs = Date.now()) => {
      const id = newJobId();
      const { options } = parseOptions({ tier: 'auto', ...fields });
      return { options, durationSeconds: seconds, job: { id, requestedMs } };
    };
    const routed = async (what: ToRoute) => (await chooseBackend({ records, backends }, what)).routing;

    test('auto takes what costs least, says why, and what it was expected to cost elsewhere', async () => {
      const short = await routed(of(60));
      expect(short).toMatchObject({
        chosen: 'cheap',
        tier: 'standard',
        because: 'cheap costs least for a recording of 60 s: $0.0030 instead of $0.028',
        alternatives: ['service', 'job'],
      });
      expect(short.estimates).toEqual([
        {
          backend: 'service',
          expected_usd: expect.any(Number),
          begins_in_seconds: 60,
          done_in_seconds: 71,
          meets: 'start',
          shared_by: 1,
        },
        expect.objectContaining({ backend: 'job', meets: 'start', shared_by: null }),
        expect.objectContaining({ backend: 'cheap', meets: 'idle', expected_usd: 0.003 }),
      ]);
      expect(await routed(of(2 * HOUR))).toMatchObject({ chosen: 'job', tier: 'premium' });
    });

    test('auto takes an instance that is warm', async () => {
      const now = new Date().toISOString();
      await records.create(instanceKey({ backend: 'service', id: 'one' }), {
        ...{ backend: 'service', trigger: 'push', started_at: now, beat_at: now },
        ...{ busy_since: null, idle_since: now, ended_at: null, jobs: [] },
      });
      const { chosen, because } = await routed(of(HOUR));
      expect(chosen).toBe('service');
      expect(because).toMatch(
        /^an instance of service is warm, which costs least for a recording of 1 h: \$0\.14 instead of \$0\.17$/,
      );
    });

    test('auto keeps a deadline if anything does', async () => {
      expect(await routed(of(2 * HOUR, { deadline_seconds: '300' }))).toMatchObject({
        chosen: 'cheap',
        because:
          'it costs least of those that are done in the 5 min that are left: $0.36; job would take 13 min',
      });
      const late = await routed(of(2 * HOUR, { deadline_seconds: '300' }, Date.now() - 290_000));
      expect(late).toMatchObject({ chosen: 'cheap' });
      expect(late.because).toMatch(/^none is expected to be done in the [\d.]+ s that are left, and cheap/);
    });

    test('the price of an API is that of the model that is asked for', async () => {
      const usd = async (fields: Record<string, unknown>) =>
        (await routed(of(60, fields))).estimates?.find(({ backend }) => backend === 'cheap')?.expected_usd;
      expect(await usd({})).toBe(0.003);
      const asked = { model: 'voxtral-small-transcribe-3', word_timestamps: 'false' };
      expect(await usd(asked)).toBe(PRICES['voxtral-small-3'].usd);
    });

    test('auto asks the others when one has refused, and premium keeps to its order', async () => {
      const passedOver = [{ backend: 'job', because: 'has no capacity at the moment' }];
      const moved = await routed({ ...of(HOUR), passedOver });
      expect(moved.chosen).toBe('cheap');
      expect(moved.because).toMatch(/^job has no capacity at the moment; cheap costs least/);
      const premium = await routed(of(HOUR, { tier: 'premium' }));
      expect(premium).toMatchObject({ chosen: 'service', because: 'it comes first in BACKENDS' });
      expect(premium.estimates?.map(({ backend }) => backend)).toEqual(['service', 'job']);
    });

    test('what one engine has begun stays with it, as long as one of its backends takes it', async () => {
      const begun: ToRoute = { ...of(60), engine: 'whisperx' };
      expect(await routed(begun)).toMatchObject({
        chosen: 'job',
        because: expect.stringMatching(/^cheap would have to begin anew; job costs least/),
        alternatives: ['service'],
      });
      const passedOver = ['service', 'job'].map((backend) => ({ backend, because: 'is full' }));
      expect(await routed({ ...begun, passedOver })).toMatchObject({ chosen: 'cheap', tier: 'standard' });
      expect(await routed({ ...of(2 * HOUR), engine: 'voxtral' })).toMatchObject({ chosen: 'cheap' });
    });

    test('the engine is that of the work, not of one that has nothing yet', async () => {
      const record = newJobRecord(
        { owner: 'local', id: newJobId() },
        {
          ...parseOptions({ tier: 'auto' }),
          source: { type: 'url', address: 'a', filename: 'a', content_type: 'a', bytes: null, sha256: null },
          routing: { chosen: 'cheap', because: '', alternatives: [] },
          ...{ model: null, idempotencyHash: null, nowMs: Date.now() },
        },
      );
      record.engine = 'voxtral';
      expect(toRoute(record).engine).toBeNull();
      record.checkpoints.transcribe = [{ epoch: 1, parts: 1 }];
      expect(toRoute(record).engine).toBe('voxtral');
      record.checkpoints.transcribe = [];
      record.objects.transcript = 'transcripts/x';
      expect(toRoute(record).engine).toBe('voxtral');
    });

    test('the first has it when nobody can say what it costs', async () => {
      const broken = new Proxy(records, {
        get: (target, name) =>
          name === 'list'
            ? () => Promise.reject(new Error('storage is away'))
            : (Reflect.get(target, name) as () => unknown).bind(target),
      });
      const { routing } = await chooseBackend({ records: broken, backends }, of(60));
      expect(routing).toMatchObject({ chosen: 'service', estimates: [], tier: 'premium' });
    });
  });
});
