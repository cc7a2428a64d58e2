import { LANGUAGES_WITHOUT_SPACES } from '../languages.ts';
import type { Segment, Transcript } from '../transcript.ts';

/**
 * The transcript of channels that lay one after the other → that of channels that ran at the same time, each a
 * speaker of its own, in the order in which things were said.
 * @param channelStarts where each channel began, in seconds of the joined recording
 */
export function separateChannels(
  joined: Transcript,
  channelStarts: readonly number[],
  durationSeconds: number,
): Transcript {
  const duration = milliseconds(durationSeconds);
  const segments = joined.segments
    .map((segment) => inItsChannel(segment, channelStarts, duration))
    // Stable, so what begins at once stays in the order of the channels.
    .toSorted((one, other) => one.start - other.start)
    .map((segment, id) => ({ ...segment, id }));
  const separator = LANGUAGES_WITHOUT_SPACES.has(joined.language) ? '' : ' ';
  return {
    ...joined,
    duration,
    text: segments.map(({ text }) => text).join(separator),
    segments,
    speakers: [...new Set(segments.map(({ speaker }) => speaker))].filter((name) => name !== undefined),
  };
}

function inItsChannel(segment: Segment, channelStarts: readonly number[], duration: number): Segment {
  const channel = Math.max(
    0,
    channelStarts.findLastIndex((start) => start <= segment.start),
  );
  const speaker = `SPEAKER_${String(channel).padStart(2, '0')}`;
  const offset = channelStarts[channel] ?? 0;
  // Voice detection may lend a word a little of the silence between two channels.
  const within = (time: number) => Math.min(duration, Math.max(0, milliseconds(time - offset)));
  const moved = <T extends { start: number; end: number }>(span: T) => ({
    ...span,
    start: within(span.start),
    end: within(span.end),
    speaker,
  });
  return { ...moved(segment), ...(segment.words && { words: segment.words.map(moved) }) };
}

function milliseconds(seconds: number): number {
  return Math.round(seconds * 1_000) / 1_000;
}
