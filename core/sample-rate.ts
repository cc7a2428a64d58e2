/** What every engine reads: the rate Whisper was trained at. */
export const SAMPLE_RATE = 16_000;
