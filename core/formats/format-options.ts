import { z } from 'zod';
import { invalidOption, readOptions } from '../read-options.ts';
import { boolean, number } from '../text-values.ts';

export const FORMAT_NAMES = ['json', 'srt', 'vtt', 'txt', 'tsv'] as const;
export type FormatName = (typeof FORMAT_NAMES)[number];

const count = number(
  z.int('must be a whole number').min(1, 'must be at least 1').max(1000, 'must be at most 1000'),
);

const QUERY = z.strictObject({
  format: z.enum(FORMAT_NAMES, `must be one of ${FORMAT_NAMES.join(', ')}`).default('json'),
  max_line_width: count.optional(),
  max_line_count: count.optional(),
  highlight_words: boolean.optional(),
  speaker_labels: boolean.optional(),
});

export const FORMAT_PARAMETERS = Object.keys(QUERY.shape);

/** Those that mean nothing to a format are ignored by it; json always holds everything. */
export interface FormatOptions {
  /** Characters in a line of a subtitle. */
  max_line_width?: number | undefined;
  /** Lines in a subtitle. Needs max_line_width; then subtitles may cross the borders of segments. */
  max_line_count?: number | undefined;
  /** Underline each word while it is spoken. Default false. */
  highlight_words?: boolean | undefined;
  /** Put `[SPEAKER_00]: ` in front. Default true; without diarization there is nothing to put. */
  speaker_labels?: boolean | undefined;
}

/**
 * Reads how a transcript shall be rendered from the query of a request.
 * @throws {ServiceError} `invalid-option`, naming the field
 */
export function parseFormatOptions(
  query: Readonly<Record<string, unknown>>,
): FormatOptions & { format: FormatName } {
  const options = readOptions(QUERY, query, FORMAT_PARAMETERS);
  if (options.max_line_count !== undefined && options.max_line_width === undefined) {
    throw invalidOption('max_line_count', 'The option max_line_count needs max_line_width too.');
  }
  return options;
}
