import { z } from 'zod';

/** The plan of a job: what is sent in one request each, in samples of its channel. */
export const AudioPiece = z.object({
  key: z.string(),
  channel: z.int(),
  from: z.int(),
  to: z.int(),
});
export type AudioPiece = z.infer<typeof AudioPiece>;

export const Plan = z.object({ pieces: z.array(AudioPiece) });
export type Plan = z.infer<typeof Plan>;

const time = z.number().nullable();

/** What came back for one, as it came: times are from its start, or missing, and are checked when they are put together. */
export const AnsweredPiece = z.object({
  index: z.int(),
  text: z.string(),
  language: z.string().nullable(),
  segments: z.array(
    z.object({
      text: z.string(),
      start: time,
      end: time,
      score: time,
      speaker: z.string().nullable(),
    }),
  ),
  /** There may be speech in it, and yet no words came, as often as it was asked. */
  lacks_words: z.boolean(),
  /** No words came the first time. A second answer follows, or there is nothing in it. */
  is_doubtful: z.boolean().optional(),
});
export type AnsweredPiece = z.infer<typeof AnsweredPiece>;
