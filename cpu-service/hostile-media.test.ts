import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Readable } from 'node:stream';
import { deflateSync, gzipSync } from 'node:zlib';
import { afterAll, afterEach, beforeAll, describe, expect, test } from '@jest/globals';
import { readInstallation } from '../core/installation.ts';
import { type ProblemSlug, ServiceError } from '../core/problem.ts';
import { childPids } from '../tests/support/child-pids.ts';
import {
  atom,
  chunk,
  element,
  id3,
  macintoshAlias,
  mov,
  oggPage,
  pcmTrack,
  syncSafe,
  u16,
  u32,
  u32le,
} from '../tests/support/crafted-media.ts';
import { ffmpeg, sine, wav } from '../tests/support/media.ts';
import { DECODE_LIMITS, type DecodeLimits, decodeMedia } from './decode-media.ts';

const { ffmpeg: ffmpegPath } = readInstallation();
const MIB = 2 ** 20;

/** Small, so that what takes everything is done with soon. Memory is that of the product. */
const LIMITS: DecodeLimits = { ...DECODE_LIMITS, timeoutMs: 10_000, cpuSeconds: 5, audioSeconds: 600 };
/** With what a busy machine adds. */
const LONGEST_MS = LIMITS.timeoutMs + 5_000;

let folder: string;
/** A recording that nobody uploaded. Whoever gets audio out of a file that names it has read it. */
let canary: string;
/** Listens on loopback for what must not come. */
let trap: Server;
let trapUrl: string;
let trapped: number;

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'hostile-media-'));
  canary = file('canary.wav', wav({ seconds: 2 }, sine));
  trap = createServer((_req, res) => res.writeHead(404).end()).on('connection', () => trapped++);
  await new Promise<void>((resolve) => trap.listen(0, '127.0.0.1', resolve));
  trapUrl = `http://127.0.0.1:${(trap.address() as AddressInfo).port}/canary.wav`;
});
afterAll(async () => {
  rmSync(folder, { recursive: true });
  trap.closeAllConnections();
  await new Promise((resolve) => trap.close(resolve));
});
afterEach(() => expect(childPids()).toEqual([]));

function file(name: string, content: Buffer | string): string {
  const path = join(folder, name);
  writeFileSync(path, content);
  return path;
}

interface Ending {
  problem: ServiceError | undefined;
  /** Of audio that was stored as whole. */
  seconds: number;
  tookMs: number;
}

async function decode(path: string, channels: 'mix' | 'separate', limits: DecodeLimits): Promise<Ending> {
  const startedAtMs = performance.now();
  let whole = 0;
  const sink = async (body: Readable) => {
    for await (const _ of body);
    whole += 1;
  };
  let problem: ServiceError | undefined;
  let seconds = 0;
  try {
    const media = await decodeMedia(
      { path, channels },
      { audio: sink, playback: sink },
      { ffmpegPath, limits },
    );
    seconds = media.durationSeconds;
  } catch (error) {
    if (!(error instanceof ServiceError)) throw error;
    problem = error;
  }
  expect(whole > 0).toBe(problem === undefined);
  return { problem, seconds, tookMs: performance.now() - startedAtMs };
}

const playlist = (target: string, more = '') =>
  `#EXTM3U\n#EXT-X-TARGETDURATION:3\n${more}#EXTINF:3,\n${target}\n#EXT-X-ENDLIST\n`;
const presentation = (target: string) =>
  `<?xml version="1.0"?>\n<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" mediaPresentationDuration="PT3S" ` +
  `profiles="urn:mpeg:dash:profile:isoff-on-demand:2011"><Period><AdaptationSet contentType="audio">` +
  `<Representation id="0" mimeType="audio/mp4" bandwidth="1"><BaseURL>${target}</BaseURL></Representation>` +
  '</AdaptationSet></Period></MPD>\n';
const concat = (...targets: string[]) =>
  `ffconcat version 1.0\n${targets.map((target) => `file '${target}'\n`).join('')}`;
const session = () =>
  `v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=audio ${new URL(trapUrl).port} RTP/AVP 0\n`;
const nowhere = { chunkOffsets: [0], samplesPerChunk: 32_000 };

/** Name other files or hosts. The options are those with which ffmpeg goes there, where nobody forbids it. */
const REFERENCES: [name: string, slug: ProblemSlug, make: () => Buffer | string, options?: string[]][] = [
  ['hls.mp4', 'media-unreadable', () => playlist(trapUrl), ['-f', 'hls', '-allowed_extensions', 'ALL']],
  ['hls.mp3', 'media-unreadable', () => playlist(canary), ['-f', 'hls', '-allowed_extensions', 'ALL']],
  [
    'hls-with-a-key.wav',
    'media-unreadable',
    () => playlist('canary.wav', `#EXT-X-KEY:METHOD=AES-128,URI="${trapUrl}"\n`),
    ['-f', 'hls', '-allowed_extensions', 'ALL'],
  ],
  [
    'hls-of-hls.mp4',
    'media-unreadable',
    () => `#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\n${trapUrl}\n`,
    ['-f', 'hls', '-allowed_extensions', 'ALL'],
  ],
  ['hls-with-a-mark.mp3', 'media-unreadable', () => `\ufeff${playlist(trapUrl)}`],
  [
    'hls-behind-a-tag.mp3',
    'media-unreadable',
    () => Buffer.concat([id3(Buffer.alloc(500)), Buffer.from(playlist(trapUrl))]),
  ],
  [
    'hls-behind-a-tag-that-is-too-long.mp3',
    'media-unreadable',
    () => Buffer.concat([id3('', 200), Buffer.from(playlist(trapUrl))]),
  ],
  ['dash.mp4', 'media-unreadable', () => presentation(trapUrl), []],
  ['dash.webm', 'media-unreadable', () => presentation(`file://${canary}`)],
  ['concat.wav', 'media-unreadable', () => concat(canary), ['-safe', '0']],
  ['concat.mp4', 'media-unreadable', () => concat(trapUrl), ['-safe', '0']],
  ['nested-concat.mp3', 'media-unreadable', () => concat('inner.ffconcat'), ['-safe', '0']],
  ['concat-protocol.mp4', 'media-unreadable', () => playlist(`concat:${canary}|${trapUrl}`)],
  ['subfile-protocol.mp4', 'media-unreadable', () => playlist(`subfile,,start,0,end,100,,:${canary}`)],
  ['session.mp4', 'media-unreadable', session],
  ['session.mp3', 'media-unreadable', session],
  ['session.wav', 'media-unreadable', session],
  [
    'alias.mov',
    'media-unreadable',
    () => mov([pcmTrack({ ...nowhere, chunkOffsets: [44], reference: macintoshAlias(canary) })]),
    ['-enable_drefs', '1', '-use_absolute_path', '1'],
  ],
  [
    'url.mov',
    'media-unreadable',
    () =>
      mov([pcmTrack({ ...nowhere, chunkOffsets: [1e6], reference: atom('url ', u32(0), `${trapUrl}\0`) })]),
  ],
  [
    'reference-movie.mov',
    'media-unreadable',
    () =>
      mov([
        atom('rmra', atom('rmda', atom('rdrf', u32(0), 'url ', u32(trapUrl.length + 1), `${trapUrl}\0`))),
      ]),
  ],
  [
    'entity.svg',
    'media-unreadable',
    () =>
      `<?xml version="1.0"?><!DOCTYPE svg [<!ENTITY x SYSTEM "${trapUrl}">]><svg xmlns="http://www.w3.org/2000/svg" ` +
      `xmlns:xlink="http://www.w3.org/1999/xlink"><image xlink:href="${trapUrl}"/><text>&x;</text></svg>`,
  ],
];

async function tones(seconds: number, ...output: string[]): Promise<Buffer> {
  const source = `sine=frequency=440:sample_rate=48000:duration=${seconds}`;
  return await ffmpeg(ffmpegPath, ['-f', 'lavfi', '-i', source, ...output, 'pipe:1']);
}

/** Of WAV and AVI; what does not fit is cut off, as such a file would have it. */
const waveFormat = (rate: number, channels: number, bits = 16) =>
  Buffer.concat([
    u16(1).swap16(),
    u16(channels).swap16(),
    u32le(rate, (rate * channels * (bits / 8)) % 2 ** 32),
    u16((channels * (bits / 8)) & 0xffff).swap16(),
    u16(bits).swap16(),
  ]);
const claimingWav = (rate: number, channels: number, samples: Buffer) =>
  Buffer.concat([
    Buffer.from('RIFF\xff\xff\xff\xffWAVE', 'latin1'),
    chunk('fmt ', waveFormat(rate, channels)),
    Buffer.from('data\xff\xff\xff\xff', 'latin1'),
    samples,
  ]);

const webm = (...elements: Buffer[]) =>
  Buffer.concat([
    element('1a45dfa3', element('4282', Buffer.from('webm'))),
    element('18538067', Buffer.concat(elements), 2 ** 52),
  ]);

const OPUS_HEAD = Buffer.concat([
  Buffer.from('OpusHead\x01\x01\0\0', 'latin1'),
  u32le(48_000),
  Buffer.alloc(3),
]);

const aviStream = chunk(
  'LIST',
  'strl',
  chunk('strh', 'auds', Buffer.alloc(16), u32le(2, 32_000), Buffer.alloc(12), u32le(2), Buffer.alloc(8)),
  chunk('strf', waveFormat(16_000, 1)),
);

function nestedAtoms(depth: number): Buffer {
  // Each says it holds all the others; made from the outside, for a million copies of the inside would not end.
  const atoms = Buffer.alloc(depth * 8);
  for (let i = 0; i < depth; i++) {
    atoms.writeUInt32BE((depth - i) * 8, i * 8);
    atoms.write(i === 0 ? 'moov' : 'trak', i * 8 + 4, 'latin1');
  }
  return Buffer.concat([atom('ftyp', 'isom', u32(0), 'isom'), atoms]);
}

/** 'audio' with the most there may be of it; anything else is the problem. */
type Expected = ProblemSlug | { atMostSeconds: number };

/** Claim, multiply or nest, to take memory, time or space. */
const GREEDY: [name: string, expected: Expected, make: () => Buffer | Promise<Buffer>][] = [
  [
    'million-tracks.mp4',
    'decode-limit-exceeded',
    () => mov([Buffer.from(atom('trak').toString('latin1').repeat(1e6), 'latin1')]),
  ],
  [
    'ten-thousand-full-tracks.mp4',
    'decode-limit-exceeded',
    () =>
      mov(
        [Buffer.concat(Array(10_000).fill(pcmTrack({ chunkOffsets: [28], samplesPerChunk: 10 })))],
        Buffer.alloc(20),
      ),
  ],
  ['nested-atoms.mp4', 'media-without-audio', () => nestedAtoms(1_000_000)],
  [
    'two-billion-samples.mp4',
    'media-unreadable',
    () =>
      mov([
        pcmTrack({ format: 'mp4a', chunkOffsets: [28], samplesPerChunk: 0x7fff_ffff, samples: 0x7fff_ffff }),
      ]),
  ],
  [
    // A megabyte that is said to come 4,000 times.
    'same-chunk-again.mov',
    'decode-limit-exceeded',
    () =>
      mov([pcmTrack({ chunkOffsets: Array(4_000).fill(28), samplesPerChunk: MIB / 2 })], Buffer.alloc(MIB)),
  ],
  [
    'compressed-header.mov',
    'media-unreadable',
    () => {
      const moov = deflateSync(atom('moov', Buffer.alloc(200 * MIB)));
      return Buffer.concat([
        atom('ftyp', 'qt  ', u32(0), 'qt  '),
        atom('moov', atom('cmov', atom('dcom', 'zlib'), atom('cmvd', u32(200 * MIB + 8), moov))),
      ]);
    },
  ],
  [
    'huge-atom.mp4',
    'media-unreadable',
    () =>
      Buffer.concat([
        atom('ftyp', 'isom', u32(0)),
        u32(1),
        Buffer.from('moov'),
        u32(0x7fff_ffff, 0xffff_fff0),
      ]),
  ],
  [
    'huge-segment.webm',
    'media-unreadable',
    () => webm(element('1654ae6b', element('ae', Buffer.alloc(8), 2 ** 50), 2 ** 51)),
  ],
  [
    'huge-private-data.mkv',
    'media-unreadable',
    () =>
      webm(
        element(
          '1654ae6b',
          element('ae', element('63a2', Buffer.alloc(64), 250 * MIB), 300 * MIB),
          400 * MIB,
        ),
      ),
  ],
  [
    'many-tracks.webm',
    'media-unreadable',
    () => {
      const track = element(
        'ae',
        Buffer.concat([
          element('d7', Buffer.from([1])),
          element('83', Buffer.from([2])),
          element('86', Buffer.from('A_OPUS')),
        ]),
      );
      return webm(element('1654ae6b', Buffer.concat(Array(100_000).fill(track))));
    },
  ],
  [
    'many-streams.ogg',
    'decode-limit-exceeded',
    () => Buffer.concat(Array.from({ length: 20_000 }, (_, serial) => oggPage(OPUS_HEAD, { serial }))),
  ],
  [
    'absurd-page.ogg',
    'media-unreadable',
    () => Buffer.concat([Buffer.from('OggS\0\x02', 'latin1'), Buffer.alloc(20, 255), Buffer.alloc(256, 255)]),
  ],
  [
    'endless-chain.ogg',
    'decode-limit-exceeded',
    async () =>
      Buffer.concat(Array(3_000).fill(await tones(1, '-c:a', 'libopus', '-b:a', '6k', '-f', 'ogg'))),
  ],
  [
    'four-gigabytes.wav',
    { atMostSeconds: 1 },
    () => claimingWav(16_000, 1, wav({ seconds: 1 }, sine).subarray(44)),
  ],
  ['absurd-rate.wav', 'media-unreadable', () => claimingWav(0xffff_ffff, 1, Buffer.alloc(100_000))],
  ['high-rate.wav', 'decode-limit-exceeded', () => claimingWav(0x7fff_ffff, 1, Buffer.alloc(100_000))],
  ['absurd-channels.wav', 'media-unreadable', () => claimingWav(16_000, 0xffff, Buffer.alloc(100_000))],
  ['one-hertz.wav', 'decode-limit-exceeded', () => claimingWav(1, 1, Buffer.alloc(100_000))],
  [
    'bomb.flac',
    'decode-limit-exceeded',
    () =>
      ffmpeg(ffmpegPath, [
        '-f',
        'lavfi',
        '-i',
        'anullsrc=r=8000:cl=mono',
        '-t',
        '36000',
        '-c:a',
        'flac',
        '-frame_size',
        '16384',
        '-f',
        'flac',
        'pipe:1',
      ]),
  ],
  ['tag-of-256-megabytes.mp3', 'media-unreadable', () => id3(Buffer.alloc(1_000), 0x0fff_ffff)],
  [
    'compressed-tag.mp3',
    'media-unreadable',
    () => {
      const bomb = deflateSync(Buffer.alloc(200 * MIB));
      const flags = Buffer.from([0, 0x09]);
      return id3(
        Buffer.concat([Buffer.from('TIT2'), syncSafe(bomb.length + 4), flags, syncSafe(200 * MIB), bomb]),
      );
    },
  ],
  ['thousand-tags.mp3', 'media-unreadable', () => Buffer.concat(Array(100_000).fill(id3(Buffer.alloc(10))))],
  [
    'many-streams.avi',
    'decode-limit-exceeded',
    () =>
      chunk(
        'RIFF',
        'AVI ',
        chunk('LIST', 'hdrl', chunk('avih', Buffer.alloc(56)), Buffer.concat(Array(50_000).fill(aviStream))),
        chunk('LIST', 'movi'),
      ),
  ],
  [
    'nested-objects.flv',
    'media-unreadable',
    () => {
      const depth = 100_000;
      const objects = Buffer.concat(Array(depth).fill(Buffer.from('\0\x01a\x03', 'latin1')));
      const data = Buffer.concat([Buffer.from('\x02\0\x0aonMetaData\x03', 'latin1'), objects]);
      return Buffer.concat([
        Buffer.from('FLV\x01\x04\0\0\0\x09\0\0\0\0\x12', 'latin1'),
        u32(data.length).subarray(1),
        Buffer.alloc(7),
        data,
      ]);
    },
  ],
  [
    'packet-table.caf',
    'media-unreadable',
    () => {
      const rate = Buffer.alloc(8);
      rate.writeDoubleBE(16_000);
      const description = Buffer.concat([rate, Buffer.from('alac'), u32(0, 0, 4096, 1, 16)]);
      const table = Buffer.concat([u32(0x100, 0, 0x7fff_ffff, 0xffff_ffff, 0, 0), Buffer.alloc(100)]);
      return Buffer.concat([
        Buffer.from('caff\0\x01\0\0desc', 'latin1'),
        u32(0, 32),
        description,
        Buffer.from('pakt'),
        u32(0, table.length),
        table,
        Buffer.from('data'),
        u32(0xffff_ffff, 0xffff_ffff, 0),
      ]);
    },
  ],
  ['bomb.gz.mp3', 'media-unreadable', () => gzipSync(Buffer.alloc(50 * MIB))],
  ['one-byte.mp3', 'media-unreadable', () => Buffer.from('I')],
  ['no-byte.wav', 'media-empty', () => Buffer.alloc(0)],
];

describe('a file that names another one', () => {
  beforeAll(() => {
    file('inner.ffconcat', concat('canary.wav'));
  });

  test.each(REFERENCES)('%s is refused as %s, and nobody goes there', async (name, slug, make) => {
    const path = file(name, make());
    for (const channels of ['mix', 'separate'] as const) {
      trapped = 0;
      const { problem, tookMs } = await decode(path, channels, LIMITS);
      expect(problem?.slug).toBe(slug);
      expect(problem?.message).not.toMatch(/canary|127\.0\.0\.1|ffmpeg|0x/);
      expect(tookMs).toBeLessThan(LONGEST_MS);
      expect(trapped).toBe(0);
    }
  });

  test.each(REFERENCES.filter(([, , , options]) => options !== undefined))(
    '%s is one where ffmpeg would go there',
    async (name, _slug, make, options = []) => {
      const path = file(name, make());
      trapped = 0;
      const protocols = ['-protocol_whitelist', 'file,http,tcp,crypto'];
      const samples = await ffmpeg(ffmpegPath, [
        ...protocols,
        ...options,
        '-i',
        path,
        '-f',
        's16le',
        'pipe:1',
      ]).catch(() => Buffer.alloc(0));
      expect(trapped + samples.length).toBeGreaterThan(0);
    },
  );
});

describe('a file that wants too much', () => {
  test.each(GREEDY)('%s ends in %j', async (name, expected, make) => {
    const path = file(name, await make());
    for (const channels of ['mix', 'separate'] as const) {
      const { problem, seconds, tookMs } = await decode(path, channels, LIMITS);
      if (typeof expected === 'string') expect(problem?.slug).toBe(expected);
      else {
        expect(problem).toBeUndefined();
        expect(seconds).toBeLessThanOrEqual(expected.atMostSeconds);
      }
      expect(tookMs).toBeLessThan(LONGEST_MS);
    }
    rmSync(path);
  });
});

describe('a path that is no file', () => {
  test('is refused without waiting for bytes', async () => {
    const fifo = join(folder, 'pipe.mp3');
    execFileSync('mkfifo', [fifo]);
    for (const path of [fifo, '/dev/zero', folder]) {
      const { problem, tookMs } = await decode(path, 'mix', LIMITS);
      expect(problem?.slug).toBe('media-unreadable');
      expect(tookMs).toBeLessThan(1_000);
    }
  });
});
