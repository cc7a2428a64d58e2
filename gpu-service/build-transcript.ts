import { LANGUAGES_WITHOUT_SPACES } from '../core/languages.ts';
import type { Segment, Transcript } from '../core/transcript.ts';
import type { RawSegment } from '../core/transcripts/raw-segment.ts';
import { wholeWords } from '../core/transcripts/whole-words.ts';
import { completeWordTimes, type Span, settleTimes } from '../core/transcripts/word-times.ts';
import { assignSpeakers } from './assign-speakers.ts';
import type { AlignedChunk, SpeakerTurn, TranscribedChunk } from './supervisor/protocol.ts';

export interface TranscriptParts {
  chunks: readonly TranscribedChunk[];
  /** One for each chunk, in the same order; undefined when the language has no alignment model. */
  aligned?: readonly (AlignedChunk | undefined)[] | undefined;
  /** Undefined without diarization. */
  turns?: readonly SpeakerTurn[] | undefined;
  /** Of the text. */
  language: string;
  durationSeconds: number;
  wordTimestamps: boolean;
}

/**
 * Puts together what the models found. Chunks lie in the recording, segments in their chunk, words in their segment,
 * each settled in the order of time, so times never run backwards anywhere.
 */
export function buildTranscript(parts: TranscriptParts): Transcript {
  const { chunks, aligned, turns = [], language, wordTimestamps } = parts;
  const duration = Math.max(0, Math.round(parts.durationSeconds * 1000) / 1000);
  const chunkTimes = settleTimes(chunks, { start: 0, end: duration });
  let isAligned = false;
  const unassigned = chunks.flatMap((chunk, index) => {
    const alignment = wordTimestamps ? usable(aligned?.[index]) : undefined;
    isAligned ||= alignment !== undefined;
    const raw = (alignment ?? chunk.segments).filter(({ text }) => text.trim() !== '');
    // Nothing of the text may be missing from the segments.
    if (raw.length === 0 && chunk.text.trim() !== '') raw.push({ ...chunk, words: null });
    return settleSegments(raw, chunkTimes[index] as Span, language, wordTimestamps);
  });
  const segments = assignSpeakers(
    unassigned.map((segment, id): Segment => ({ id, ...segment })),
    turns,
  );
  return {
    language,
    duration,
    text: joinTexts(chunks, language),
    words_from: !wordTimestamps || segments.length === 0 ? null : isAligned ? 'alignment' : 'attention',
    segments,
    speakers: speakersOf(segments),
  };
}

/** An aligner that fails on a chunk gives its words back without times: cross-attention knows better. */
function usable(aligned: AlignedChunk | undefined): RawSegment[] | undefined {
  const hasTimes = aligned?.segments.some(({ words }) => words?.some(({ start }) => start !== null));
  return hasTimes ? aligned?.segments : undefined;
}

function settleSegments(
  raw: readonly RawSegment[],
  chunk: Span,
  language: string,
  wordTimestamps: boolean,
): Omit<Segment, 'id'>[] {
  const times = settleTimes(raw, chunk);
  return raw.map((segment, index) => {
    const { start, end } = times[index] as Span;
    const text = segment.text.trim();
    if (!wordTimestamps) return { start, end, text };
    const words = completeWordTimes({ start, end, text, words: wholeWords(segment, language) });
    return { start, end, text, words };
  });
}

/** Stripped and joined: models begin most chunks, but not all, with a space. */
function joinTexts(chunks: readonly TranscribedChunk[], language: string): string {
  const texts = chunks.map(({ text }) => text.trim()).filter((text) => text !== '');
  return texts.join(LANGUAGES_WITHOUT_SPACES.has(language) ? '' : ' ');
}

/** In the order in which they are first heard. */
function speakersOf(segments: readonly Segment[]): string[] {
  const heard = segments.flatMap((segment) =>
    [...(segment.words ?? []), segment].map(({ speaker }) => speaker),
  );
  return [...new Set(heard)].filter((speaker) => speaker !== undefined);
}
