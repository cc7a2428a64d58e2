import type { Backend } from '../backends.ts';
import { readCapabilities, refusalOf } from '../capabilities.ts';
import type { JobRecord, PassedOver } from '../job.ts';
import type { TranscriptionOptions } from '../options.ts';
import { ServiceError } from '../problem.ts';
import type { Records } from '../records/records.ts';

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
  const ofTier = inTheirOrder(backends, tier, allowFallback);
  const candidates = ofTier.map((backend) => ({
    name: backend.name,
    tier: backend.tier,
    against:
      passedOver.find((one) => one.backend === backend.name)?.because ??
      lengthRefused(backend, durationSeconds),
  }));
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
  };
}

/**
 * The same, of those whose models can do what is asked for, and with which of them. What a backend has not said yet
 * it is believed to be able to: its worker checks again.
 * @throws {ServiceError} `no-backend`, or what the best of those that the models rule out would refuse with
 */
export async function chooseBackend(
  { records, backends }: { records: Records; backends: readonly Backend[] },
  { options, ...wish }: Omit<Wish, 'tier' | 'allowFallback'> & { options: TranscriptionOptions },
): Promise<{ routing: Routing; model: string | null }> {
  const passedOver = [...(wish.passedOver ?? [])];
  let firstRefusal: ServiceError | undefined;
  for (;;) {
    let routing: Routing;
    try {
      routing = route(backends, {
        ...wish,
        tier: options.tier,
        allowFallback: options.allow_fallback,
        passedOver,
      });
    } catch (error) {
      throw firstRefusal ?? error;
    }
    const chosen = backends.find(({ name }) => name === routing.chosen) as Backend;
    const capabilities = await readCapabilities(records, chosen);
    if (capabilities === undefined) return { routing, model: null };
    const { model, refusal } = refusalOf(options, capabilities);
    if (refusal === undefined) return { routing, model };
    firstRefusal ??= refusal;
    passedOver.push({ backend: routing.chosen, because: 'has no model for what was asked' });
  }
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
  if (max !== undefined && seconds > max) return `takes no recordings longer than ${inWords(max)}`;
  if (min !== undefined && seconds < min) return `takes no recordings shorter than ${inWords(min)}`;
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
  const length = seconds === null ? '' : ` of ${inWords(seconds)}`;
  return new ServiceError(
    'no-backend',
    `No backend takes this recording${length}: ${reasons(candidates)}. Submit a recording of another length, or ask the operator for a backend that takes it.`,
  );
}

/** `2 h 5 min`, `90 s`. */
function inWords(seconds: number): string {
  if (seconds <= 120) return `${Math.round(seconds * 10) / 10} s`;
  const minutes = Math.round(seconds / 60);
  if (minutes < 60) return `${minutes} min`;
  const rest = minutes % 60;
  return `${Math.floor(minutes / 60)} h${rest === 0 ? '' : ` ${rest} min`}`;
}
