import { costsByTheJob } from '../core/costs/backend-rate.ts';
import { checkSpendLimit } from '../core/costs/spend-limit.ts';
import type { JobRecord } from '../core/job.ts';
import { type ParsedOptions, parseOptions } from '../core/options.ts';
import { ServiceError } from '../core/problem.ts';
import { invalidOption } from '../core/read-options.ts';
import { chooseBackend } from '../core/routing/choose-backend.ts';
import type { ApiDependencies } from './dependencies.ts';

export interface CheckedSubmission extends ParsedOptions {
  routing: JobRecord['routing'];
  /** null while the backend has not said what it can. */
  model: string | null;
}

/** @throws {ServiceError} naming the field that is wrong, or that the backend cannot serve */
export async function checkSubmission(
  dependencies: Pick<ApiDependencies, 'records' | 'backends' | 'dailySpendLimitUsd' | 'now'>,
  fields: Readonly<Record<string, unknown>>,
  sourceType: JobRecord['source']['type'],
): Promise<CheckedSubmission> {
  const parsed = parseOptions(fields);
  if (parsed.options.save_beside_source !== undefined && sourceType !== 'gcs') {
    throw invalidOption('save_beside_source', 'The option save_beside_source needs a source with gcs_uri.');
  }
  // For now: how long the recording is shows when it has been decoded.
  const choice = await chooseBackend(dependencies, { options: parsed.options, durationSeconds: null });
  await checkSpendLimit(dependencies, choice.routing.chosen, dependencies.now());
  return { ...parsed, ...choice };
}

/** Options that mend another one: what is wrong without them may be right once they have arrived. */
const MENDED_BY: Record<string, readonly string[]> = {
  'invalid-option num_speakers': ['diarize'],
  'invalid-option min_speakers': ['diarize'],
  'invalid-option max_speakers': ['diarize'],
  'invalid-option deadline_seconds': ['tier'],
  'language-not-available language': ['model', 'tier'],
  'translation-not-available task': ['model', 'tier'],
  'model-not-available model': ['tier'],
  'diarization-not-configured diarize': ['tier'],
  'no-backend tier': ['tier', 'allow_fallback'],
};
/** What the chosen model does not have, another one may. */
const OTHER_MODEL = ['model', 'tier', 'word_timestamps'];

/** The same for the fields that have arrived so far: fails only for what no further field can mend. */
export async function checkSoFar(
  dependencies: Parameters<typeof checkSubmission>[0],
  arriving: Readonly<Record<string, unknown>>,
): Promise<void> {
  // More may arrive while these are checked.
  const fields = { ...arriving };
  try {
    await checkSubmission(dependencies, fields, 'upload');
  } catch (error) {
    if (!(error instanceof ServiceError)) throw error;
    const mending = mendingOf(error, dependencies.backends);
    if (mending.every((field) => field in fields)) throw error;
  }
}

function mendingOf(
  { slug, extensions }: ServiceError,
  backends: ApiDependencies['backends'],
): readonly string[] {
  if (slug === 'option-not-available') return OTHER_MODEL;
  // Another tier may cost nothing.
  if (slug === 'spend-limit-reached') return backends.every(costsByTheJob) ? [] : ['tier'];
  return MENDED_BY[`${slug} ${String(extensions.field)}`] ?? [];
}
