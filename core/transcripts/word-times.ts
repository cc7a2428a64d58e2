import type { Word } from '../transcript.ts';
import type { RawSegment } from './raw-segment.ts';

/** Seconds. */
export interface Span {
  start: number;
  end: number;
}

export interface SettledSpan extends Span {
  /** It had no times of its own. */
  isInterpolated: boolean;
}

/**
 * Gives every span a start and an end inside `within`, rounded to the millisecond, none before the end of the one
 * before it. Spans without times share the gap between their neighbours evenly. Of two that overlap, the first ends
 * where the second starts: one wrong end then spoils nothing after it.
 */
export function settleTimes(
  spans: readonly { start: number | null; end: number | null }[],
  within: Span,
): SettledSpan[] {
  const from = milliseconds(within.start);
  const to = Math.max(from, milliseconds(within.end));
  let earliest = from;
  const known = spans.map(({ start, end }) => {
    if (!isTime(start) || !isTime(end)) return undefined;
    earliest = clamp(milliseconds(start), earliest, to);
    return { start: earliest, end: clamp(milliseconds(end), earliest, to) };
  });
  let nextStart = to;
  for (const span of known.toReversed()) {
    if (span === undefined) continue;
    span.end = Math.min(span.end, nextStart);
    nextStart = span.start;
  }
  const settled: SettledSpan[] = [];
  let previousEnd = from;
  let missing = 0;
  const shareGap = (gapEnd: number) => {
    const border = (index: number) => previousEnd + Math.round(((gapEnd - previousEnd) * index) / missing);
    for (let index = 0; index < missing; index += 1) {
      settled.push({ ...seconds(border(index), border(index + 1)), isInterpolated: true });
    }
    missing = 0;
  };
  for (const span of known) {
    if (span === undefined) {
      missing += 1;
      continue;
    }
    shareGap(span.start);
    settled.push({ ...seconds(span.start, span.end), isInterpolated: false });
    previousEnd = span.end;
  }
  shareGap(to);
  return settled;
}

/** The words of a segment whose own times are settled. */
export function completeWordTimes(segment: RawSegment): Word[] {
  const words = segment.words ?? [];
  const times = settleTimes(words, segment);
  return words.map(({ word, score }, index) => {
    const { start, end, isInterpolated } = times[index] as SettledSpan;
    if (isInterpolated) return { word, start, end, interpolated: true };
    return { word, start, end, ...(isTime(score) && { score }) };
  });
}

function isTime(value: number | null): value is number {
  return Number.isFinite(value);
}

function milliseconds(value: number): number {
  return Math.max(0, Math.round(value * 1000));
}

function seconds(startMs: number, endMs: number): Span {
  return { start: startMs / 1000, end: endMs / 1000 };
}

function clamp(value: number, least: number, most: number): number {
  return Math.min(Math.max(value, least), most);
}
