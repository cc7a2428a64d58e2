import { toTheMillisecond } from '../to-the-millisecond.ts';
import type { Segment, Transcript } from '../transcript.ts';
import { wordSeparator } from './word-separator.ts';

/** Voice detection lends the first words of a channel less than this of the silence before it, which is far longer. */
const LENT_SECONDS = 1;

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
  const duration = toTheMillisecond(durationSeconds);
  const segments = joined.segments.map((segment) => inItsChannel(segment, channelStarts, duration));
  return asSaid({ ...joined, duration, segments });
}

/** Segments that come channel by channel, in the order in which they were said. */
export function asSaid(transcript: Transcript): Transcript {
  const segments = transcript.segments
    // Stable, so what begins at once stays in the order of the channels.
    .toSorted((one, other) => one.start - other.start)
    .map((segment, id) => ({ ...segment, id }));
  return {
    ...transcript,
    text: segments.map(({ text }) => text).join(wordSeparator(transcript.language, transcript.text)),
    segments,
    speakers: [...new Set(segments.map(({ speaker }) => speaker))].filter((name) => name !== undefined),
  };
}

function inItsChannel(segment: Segment, channelStarts: readonly number[], duration: number): Segment {
  const channel = Math.max(
    0,
    channelStarts.findLastIndex((start) => start - LENT_SECONDS <= segment.start),
  );
  const speaker = channelSpeaker(channel);
  const offset = channelStarts[channel] ?? 0;
  // What was lent is not of the recording.
  const within = (time: number) => Math.min(duration, Math.max(0, toTheMillisecond(time - offset)));
  const moved = <T extends { start: number; end: number }>(span: T) => ({
    ...span,
    start: within(span.start),
    end: within(span.end),
    speaker,
  });
  return { ...moved(segment), ...(segment.words && { words: segment.words.map(moved) }) };
}

export function channelSpeaker(channel: number): string {
  return `SPEAKER_${String(channel).padStart(2, '0')}`;
}
