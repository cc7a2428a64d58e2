/** What the file says of one of its audio streams. Null where ffmpeg does not say. */
export interface AudioTrack {
  codec: string;
  channels: number | null;
  sampleRate: number | null;
}

/** Those whose names say no number. */
const CHANNELS: Record<string, number> = {
  mono: 1,
  stereo: 2,
  downmix: 2,
  binaural: 2,
  quad: 4,
  hexagonal: 6,
  octagonal: 8,
  cube: 8,
  hexadecagonal: 16,
};

/** “6 channels”, “5.1”, “5.1.2(back)”, “ambisonic 1”, “stereo”. */
function channelsOf(layout: string): number | null {
  const [, count, numbers, order, name = ''] =
    /^(?:(\d+) channels|(\d+(?:\.\d+)+)|ambisonic (\d+)(?!\+)|(\w+))/.exec(layout) ?? [];
  if (count) return Number(count);
  if (numbers) return numbers.split('.').reduce((sum, part) => sum + Number(part), 0);
  if (order) return (Number(order) + 1) ** 2;
  return CHANNELS[name] ?? null;
}

/** Reads what ffmpeg tells of a file in its log (`-loglevel level+info`), there being no ffprobe to ask. */
export class MediaReport {
  readonly audioTracks: AudioTrack[] = [];
  /** Streams of any kind. */
  streams = 0;
  /** By the container; often an estimate, and never to be relied on. */
  declaredSeconds: number | null = null;
  /** While opening or decoding something was wrong. What could be decoded was decoded. */
  hasErrors = false;
  /** The same, once decoding had begun: part of the audio may be missing. */
  hasDecodeErrors = false;
  /** An mp4 without its index: cut off before its end was written. */
  isWithoutIndex = false;
  /** A QuickTime movie whose sound is in another file, which is not opened. */
  isReference = false;
  #isDecoding = false;

  read(line: string): void {
    const [, level, text = ''] = /^(?:\[[^\]]* @ [^\]]*\] )*\[(\w+)\] (.*)$/.exec(line) ?? [];
    // That is how video and pictures are stepped over.
    const isOurs = text.includes(') not on whitelist ');
    if ((level === 'error' || level === 'fatal') && !isOurs) {
      this.hasErrors = true;
      this.hasDecodeErrors ||= this.#isDecoding;
      this.isWithoutIndex ||= text.includes('moov atom not found');
    }
    this.isReference ||= text.startsWith('Skipped opening external track');
    // From here on the log describes what is made of it.
    if (text.startsWith('Stream mapping:')) this.#isDecoding = true;
    if (this.#isDecoding) return;

    const duration = /^ {2}Duration: (\d+):(\d\d):(\d\d\.\d+),/.exec(text);
    if (duration) {
      const [hours, minutes, seconds] = duration.slice(1).map(Number) as [number, number, number];
      this.declaredSeconds = hours * 3600 + minutes * 60 + seconds;
    }
    if (!/^ {2}Stream #0:\d/.test(text)) return;
    this.streams += 1;
    const audio = /: Audio: (\w+)/.exec(text);
    if (audio?.[1] === undefined) return;
    const [, sampleRate, layout] = /, (\d+) Hz, ([^,]+)/.exec(text) ?? [];
    this.audioTracks.push({
      codec: audio[1],
      channels: layout ? channelsOf(layout) : null,
      sampleRate: sampleRate ? Number(sampleRate) : null,
    });
  }
}
