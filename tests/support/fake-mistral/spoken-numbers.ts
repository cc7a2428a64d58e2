import { createHash } from 'node:crypto';
import { wav } from '../media.ts';
import type { AudioRequest, Heard } from './audio-request.ts';

/**
 * A recording that says a number every second, each as a level of its own: whoever has the samples can hear it exactly,
 * so a word that was lost, doubled or moved by a cut is seen. 0.6 s of sound, then silence.
 */
export function spokenNumbers(count: number, { channels = 1 }: { channels?: number } = {}): Buffer {
  return wav({ seconds: count, channels }, (time, channel) => {
    const second = Math.floor(time);
    if (time - second < 0.2 || time - second >= 0.8) return 0;
    // Up and down, as a voice; the level is the number.
    const level = levelOf(second * channels + channel);
    return (Math.floor(time * 1_000) % 2 === 0 ? level : -level) / 32_767;
  });
}

const LEVEL_STEP = 16;
const levelOf = (number: number): number => 1_000 + number * LEVEL_STEP;

const heardBefore = new Map<string, Promise<Segment[]>>();

/** `n0 n1 …`, each with the time at which it is said. */
export async function hearNumbers(request: AudioRequest): Promise<Heard> {
  const sum = createHash('sha256').update(request.flac).digest('hex');
  let listening = heardBefore.get(sum);
  if (listening === undefined) {
    listening = listen(request);
    heardBefore.set(sum, listening);
  }
  const segments = (await listening).map((segment, index) => ({
    ...segment,
    ...(request.diarize && { speaker: `speaker_${(index % 2) + 1}` }),
  }));
  return { text: segments.map(({ text }) => text).join(' '), segments };
}

type Segment = Heard['segments'][number];

async function listen(request: AudioRequest): Promise<Segment[]> {
  const samples = await request.samples();
  const segments: Segment[] = [];
  let at = 0;
  while (at < samples.length) {
    if (samples[at] === 0) {
      at += 1;
      continue;
    }
    const level = Math.abs(samples[at] as number);
    const from = at;
    while (at < samples.length && Math.abs(samples[at] as number) === level) at += 1;
    segments.push({ text: `n${(level - 1_000) / LEVEL_STEP}`, start: from / 16_000, end: at / 16_000 });
  }
  return segments;
}
