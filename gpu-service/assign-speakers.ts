import type { Segment } from '../core/transcript.ts';
import type { Span } from '../core/transcripts/word-times.ts';
import type { SpeakerTurn } from './supervisor/protocol.ts';

/**
 * Gives each segment and each word the speaker who talks most during it, and where nobody does, the speaker of the
 * turn whose middle is nearest: the rule of WhisperX with `fill_nearest`. Segments are not split where the speaker
 * changes within one. Segments, and words in them, must be in the order of time.
 */
export function assignSpeakers(segments: readonly Segment[], turns: readonly SpeakerTurn[]): Segment[] {
  if (turns.length === 0) return [...segments];
  const speakers = speakersDuring(segments, turns);
  const wordSpeakers = speakersDuring(
    segments.flatMap((segment) => segment.words ?? []),
    turns,
  );
  let wordsDone = 0;
  return segments.map((segment, index) => {
    const words = segment.words?.map((word, at) => ({
      ...word,
      speaker: wordSpeakers[wordsDone + at] as string,
    }));
    wordsDone += words?.length ?? 0;
    return { ...segment, speaker: speakers[index] as string, ...(words !== undefined && { words }) };
  });
}

/** One sweep: of all turns only those are looked at that can still overlap a span. */
function speakersDuring(spans: readonly Span[], turns: readonly SpeakerTurn[]): string[] {
  const waiting = turns.toSorted((one, other) => one.start - other.start);
  const nearest = nearestTurn(waiting);
  let next = 0;
  let current: SpeakerTurn[] = [];
  return spans.map((span) => {
    for (let turn = waiting[next]; turn !== undefined && turn.start < span.end; turn = waiting[next]) {
      current.push(turn);
      next += 1;
    }
    current = current.filter((turn) => turn.end > span.start);
    return longestSpeaker(current, span) ?? nearest((span.start + span.end) / 2);
  });
}

function longestSpeaker(turns: readonly SpeakerTurn[], span: Span): string | undefined {
  const totals = new Map<string, number>();
  for (const { start, end, speaker } of turns) {
    const overlap = Math.min(end, span.end) - Math.max(start, span.start);
    if (overlap > 0) totals.set(speaker, (totals.get(speaker) ?? 0) + overlap);
  }
  let longest: string | undefined;
  let most = 0;
  for (const [speaker, total] of totals) {
    if (total > most) {
      longest = speaker;
      most = total;
    }
  }
  return longest;
}

/** Of turns equally near, the one that started first. */
function nearestTurn(turns: readonly SpeakerTurn[]): (time: number) => string {
  const middles = turns
    .map(({ start, end, speaker }, order) => ({ middle: (start + end) / 2, order, speaker }))
    .sort((one, other) => one.middle - other.middle);
  return (time) => {
    let low = 0;
    let high = middles.length;
    while (low < high) {
      const half = (low + high) >> 1;
      if ((middles[half]?.middle ?? 0) < time) low = half + 1;
      else high = half;
    }
    const distance = (index: number) => Math.abs((middles[index]?.middle ?? Infinity) - time);
    const least = Math.min(distance(low - 1), distance(low));
    let first = low;
    while (distance(first - 1) === least) first -= 1;
    let beyond = low;
    while (distance(beyond) === least) beyond += 1;
    const equallyNear = middles.slice(first, beyond);
    return equallyNear.reduce((best, turn) => (turn.order < best.order ? turn : best)).speaker;
  };
}
