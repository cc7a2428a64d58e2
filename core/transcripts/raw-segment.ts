import { z } from 'zod';

/** A word as the models give it: what has no sound of its own (numerals, with some aligners) has no times yet. */
export const RawWord = z.object({
  word: z.string(),
  start: z.number().nullable(),
  end: z.number().nullable(),
  score: z.number().nullable(),
});
export type RawWord = z.infer<typeof RawWord>;

/** About a sentence. Without word times, the text of a whole chunk. */
export const RawSegment = z.object({
  start: z.number(),
  end: z.number(),
  text: z.string(),
  words: z.array(RawWord).nullable(),
});
export type RawSegment = z.infer<typeof RawSegment>;
