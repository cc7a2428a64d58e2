import { z } from 'zod';

/** Seconds from the start of the audio, rounded to the millisecond. */
const seconds = z.number().min(0);

export const Word = z.object({
  word: z.string(),
  start: seconds,
  end: seconds,
  /** How sure the aligner (or, for `attention`, the model) was: 0 to 1. Absent for interpolated words. */
  score: z.number().optional(),
  speaker: z.string().optional(),
  /** The word has no sound of its own in the model's alphabet; its times come from its neighbours. */
  interpolated: z.literal(true).optional(),
});
export type Word = z.infer<typeof Word>;

export const Segment = z.object({
  id: z.number().int(),
  start: seconds,
  end: seconds,
  text: z.string(),
  speaker: z.string().optional(),
  /** Absent when the job was asked for no word times. */
  words: z.array(Word).optional(),
});
export type Segment = z.infer<typeof Segment>;

/** What a client reads with `format=json`, and what every other format is rendered from. */
export const Transcript = z.object({
  /** `und` where the model does not say which it is. */
  language: z.string(),
  duration: seconds,
  text: z.string(),
  /**
   * `alignment`: a phoneme model per language. `attention`: Whisper's own cross-attention. `model`: the times that
   * Voxtral gives with its words. null: no word times.
   */
  words_from: z.enum(['alignment', 'attention', 'model']).nullable(),
  segments: z.array(Segment),
  speakers: z.array(z.string()),
});
export type Transcript = z.infer<typeof Transcript>;
