import { type Backend, isVoxtral } from '../backends.ts';
import { readCapabilities, refusalOf } from '../capabilities.ts';
import { PRICES, type Prices } from '../costs/prices.ts';
import type { Engine, JobRecord, PassedOver } from '../job.ts';
import type { Logger } from '../log.ts';
import type { TranscriptionOptions } from '../options.ts';
import { ServiceError } from '../problem.ts';
import type { Records } from '../records/records.ts';
import { hasWork } from '../tasks/has-work.ts';
import { becauseOf } from './because.ts';
import { type Choice, chooseCheapest } from './estimate.ts';
import { lengthInWords } from './in-words.ts';
import { readRoutingState } from './read-state.ts';

type Routing = JobRecord['routing'];

export interface Wish {
  tier: TranscriptionOptions['tier'];
  /** Whether a premium job may be done by a backend of the tier standard when no other takes it. */
  allowFallback?: boolean;
  /** null at the submission: then every length is possible. */
  durationSeconds: number | null;
  /** Backends that had the job and did not begin with it. */
  passedOver?: readonly Pick<PassedOver, 'backend' | 'because'>[];
}

/**
 * The first backend in the list that is of the tier, takes recordings of this length and was not passed over.
 * @throws {ServiceError} `no-backend`
 */
export function route(
  backends: readonly Backend[],
  { tier, allowFallback = false, durationSeconds, passedOver = [] }: Wish,
): Routing {
  const { ofTier, candidates } = candidatesOf(backends, { tier, allowFallback, durationSeconds, passedOver });
  const place = candidates.findIndex(({ against }) => against === undefined);
  const chosen = candidates[place];
  if (chosen === undefined) throw noBackend(tier, durationSeconds, candidates);
  const before = candidates.slice(0, place);
  return {
    chosen: chosen.name,
    tier: chosen.tier,
    because: before.length > 0 ? reasons(before) : whyFirst(backends, ofTier, tier),
    alternatives: candidates
      .filter((one) => one !== chosen && one.against === undefined)
      .map(({ name }) => name),
    estimates: [],
  };
}

/** What is to be sent somewhere. */
export interface ToRoute extends Pick<Wish, 'durationSeconds' | 'passedOver'> {
  options: TranscriptionOptions;
  /** Which has done some of it, or all: another would begin anew. */
  engine?: Engine | null;
  /** None at the submission. */
  job?: {
    id: string;
    /** What its deadline counts from. */
    requestedMs: number;
  };
}

/** A retry has the whole time to its deadline once more. */
export function toRoute(record: JobRecord): ToRoute {
  const { id, options, duration_seconds: durationSeconds } = record;
  return {
    options,
    durationSeconds,
    engine: engineOfWork(record),
    job: { id, requestedMs: requestedMs(record) },
  };
}

export function requestedMs({ requested_at, created_at }: JobRecord): number {
  return Date.parse(requested_at ?? created_at);
}

function engineOfWork(record: JobRecord): Engine | null {
  if (!hasWork(record) && record.objects.transcript === null) return null;
  // Records that were written before there was a second engine are WhisperX's.
  return record.engine ?? 'whisperx';
}

interface RoutingContext {
  records: Records;
  backends: readonly Backend[];
  log?: Logger;
  prices?: Prices;
  /** How old may be what is known of the backends: by default it is read anew. */
  maxAgeMs?: number;
}

/**
 * The best of those that can go on with what is done of the job; where there is none, of those that begin it anew.
 * @throws {ServiceError} `no-backend`, or what the best of those that the models rule out would refuse with
 */
export async function chooseBackend(
  context: RoutingContext,
  job: ToRoute,
): Promise<{ routing: Routing; model: string | null }> {
  const { engine = null, passedOver = [] } = job;
  const others = context.backends.filter((one) => engine !== null && engineOf(one) !== engine);
  if (others.length === 0) return chooseOfAll(context, job);
  const anew = others.map(({ name }) => ({ backend: name, because: 'would have to begin anew' }));
  try {
    return await chooseOfAll(context, { ...job, passedOver: [...passedOver, ...anew] });
  } catch (error) {
    if (!(error instanceof ServiceError)) throw error;
    return chooseOfAll(context, job);
  }
}

function engineOf(backend: Backend): Engine {
  return isVoxtral(backend) ? 'voxtral' : 'whisperx';
}

/**
 * The same, of those whose models can do what is asked for, and with which of them. What a backend has not said yet
 * it is believed to be able to: its worker checks again. Once the length is known, what the job is expected to cost at
 * each is told with it; and of the tier `auto` the cheapest is chosen that meets the deadline. When that cannot be told,
 * the first is.
 */
async function chooseOfAll(
  { records, backends, log, prices = PRICES, maxAgeMs = 0 }: RoutingContext,
  { options, durationSeconds, passedOver = [], job }: ToRoute,
): Promise<{ routing: Routing; model: string | null }> {
  const { tier, allow_fallback: allowFallback } = options;
  const asked = { tier, allowFallback, durationSeconds, passedOver };
  const models = new Map<string, string | null>();
  const unable: Pick<PassedOver, 'backend' | 'because'>[] = [];
  let firstRefusal: ServiceError | undefined;
  const possible = candidatesOf(backends, asked).candidates.filter(({ against }) => against === undefined);
  const capabilities = await Promise.all(possible.map(({ backend }) => readCapabilities(records, backend)));
  for (const [i, { name }] of possible.entries()) {
    const known = capabilities[i];
    const { model, refusal } = known === undefined ? { model: null } : refusalOf(options, known);
    if (refusal === undefined) models.set(name, model);
    else {
      firstRefusal ??= refusal;
      unable.push({ backend: name, because: 'has no model for what was asked' });
    }
  }
  if (models.size === 0 && firstRefusal !== undefined) throw firstRefusal;
  let routing = route(backends, { ...asked, passedOver: [...passedOver, ...unable] });

  const able = backends.filter(({ name }) => models.has(name));
  // On one machine there is nothing to choose and nothing to pay.
  if (job !== undefined && durationSeconds !== null && able.some(({ kind }) => kind !== 'standalone')) {
    try {
      routing = await withEstimates(records, able, routing, {
        options,
        durationSeconds,
        job,
        passedOver,
        prices,
        models,
        maxAgeMs,
      });
    } catch (error) {
      log?.warn(
        { err: error, job: job.id },
        'what the job would cost is not known: the first backend gets it',
      );
    }
  }
  return { routing, model: models.get(routing.chosen) ?? null };
}

async function withEstimates(
  records: Records,
  able: readonly Backend[],
  routing: Routing,
  {
    options,
    durationSeconds,
    job,
    passedOver,
    ...how
  }: {
    options: TranscriptionOptions;
    durationSeconds: number;
    job: NonNullable<ToRoute['job']>;
    passedOver: NonNullable<Wish['passedOver']>;
    prices: Prices;
    models: ReadonlyMap<string, string | null>;
    maxAgeMs: number;
  },
): Promise<Routing> {
  const nowMs = Date.now();
  const { candidates, demand } = await readRoutingState(records, able, { ...how, except: job.id, nowMs });
  const deadlineSeconds = options.deadline_seconds;
  const secondsLeft =
    deadlineSeconds === undefined ? null : deadlineSeconds - (nowMs - job.requestedMs) / 1_000;
  const choice = chooseCheapest(candidates, demand, { audioSeconds: durationSeconds, secondsLeft });
  const estimates = inRecord(choice);
  if (options.tier !== 'auto' || able.length === 1) return { ...routing, estimates };
  const { backend: chosen } = choice.chosen;
  const why = becauseOf(choice, { audioSeconds: durationSeconds, secondsLeft });
  const left = passedOver.map(({ backend, because }) => `${backend} ${because}; `).join('');
  return {
    chosen,
    tier: able.find(({ name }) => name === chosen)?.tier,
    because: `${left}${why}`,
    alternatives: able.flatMap(({ name }) => (name === chosen ? [] : [name])),
    estimates,
  };
}

function inRecord({ estimates }: Choice): NonNullable<Routing['estimates']> {
  return estimates.map(({ backend, expectedUsd, beginsInSeconds, doneInSeconds, meets, sharedBy }) => ({
    backend,
    expected_usd: rounded(expectedUsd, 6),
    begins_in_seconds: rounded(beginsInSeconds, 1),
    done_in_seconds: rounded(doneInSeconds, 1),
    meets,
    shared_by: sharedBy === null ? null : rounded(sharedBy, 1),
  }));
}

function rounded(value: number, digits: number): number {
  return Number(value.toFixed(digits));
}

/** Those of the tier in their order, and what there is against each. */
function candidatesOf(
  backends: readonly Backend[],
  { tier, allowFallback = false, durationSeconds, passedOver = [] }: Wish,
) {
  const ofTier = inTheirOrder(backends, tier, allowFallback);
  const candidates = ofTier.map((backend) => ({
    backend,
    name: backend.name,
    tier: backend.tier,
    against:
      passedOver.find((one) => one.backend === backend.name)?.because ??
      lengthRefused(backend, durationSeconds),
  }));
  return { ofTier, candidates };
}

/** Those that may do a job of the tier. */
function inTheirOrder(backends: readonly Backend[], tier: Wish['tier'], allowFallback: boolean): Backend[] {
  if (tier === 'auto') return [...backends];
  const ofTier = backends.filter((backend) => backend.tier === tier);
  return allowFallback ? [...ofTier, ...backends.filter((backend) => backend.tier !== tier)] : ofTier;
}

function lengthRefused(backend: Backend, seconds: number | null): string | undefined {
  if (seconds === null) return undefined;
  const { min_duration_seconds: min, max_duration_seconds: max } = backend;
  if (max !== undefined && seconds > max) return `takes no recordings longer than ${lengthInWords(max)}`;
  if (min !== undefined && seconds < min) return `takes no recordings shorter than ${lengthInWords(min)}`;
  return undefined;
}

function whyFirst(all: readonly Backend[], ofTier: readonly Backend[], tier: string): string {
  if (ofTier.length > 1) return 'it comes first in BACKENDS';
  return `it is the only backend of ${all.length === 1 ? 'this service' : `the tier ${tier}`}`;
}

function reasons(passed: readonly { name: string; against: string | undefined }[]): string {
  return passed.map(({ name, against }) => `${name} ${against}`).join('; ');
}

function noBackend(
  tier: string,
  seconds: number | null,
  candidates: readonly { name: string; against: string | undefined }[],
): ServiceError {
  if (candidates.length === 0) {
    return new ServiceError('no-backend', `This service has no backend of the tier ${tier}.`, {
      extensions: { field: 'tier' },
    });
  }
  const length = seconds === null ? '' : ` of ${lengthInWords(seconds)}`;
  return new ServiceError(
    'no-backend',
    `No backend takes this recording${length}: ${reasons(candidates)}. Submit a recording of another length, or ask the operator for a backend that takes it.`,
  );
}
