import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { mulberry32 } from '../../core/mulberry32.ts';
import type { JobRef } from '../../core/objects.ts';
import { activeKey, mediaPrefix } from '../../core/objects.ts';
import { type ProblemSlug, problemSlug } from '../../core/problem.ts';
import { deleteJob } from '../../core/tasks/delete-job.ts';
import type { Outcome } from '../../core/tasks/outcome.ts';
import { CLOUD_TIMING } from '../../core/tasks/worker-context.ts';
import { ingest } from '../../cpu-service/ingest.ts';
import { childPids } from '../support/child-pids.ts';
import { ffmpeg } from '../support/media.ts';
import { makeWorkerStore, NO_ACCESS, type WorkerStore } from '../support/worker-store.ts';
import { mutate } from './mutate.ts';

export interface FuzzOptions {
  seed: number;
  files: number;
  /** The first of them: with `files: 1`, one that went wrong again. */
  from?: number;
  ffmpegPath: string;
  log?: (line: string) => void;
}

export interface FuzzReport {
  seed: number;
  files: number;
  /** How many ended in which way. */
  ends: Record<string, number>;
  longestMs: number;
  longestFile: string;
  totalSeconds: number;
  /** From when the first tenth was done until the end; what the JavaScript side holds after a collection. */
  memoryGrowthBytes: number;
  /** What must not be, one sentence each; none is what is wanted. */
  violations: string[];
}

/** What a media file can be blamed for. */
const MEDIA_PROBLEMS: readonly ProblemSlug[] = [
  'media-empty',
  'media-unreadable',
  'media-without-audio',
  'media-too-short',
  'decode-limit-exceeded',
];

/** A few seconds of sound, in each kind of file. */
const SAMPLES: Record<string, readonly string[]> = {
  'aac.mp4': ['-c:a', 'aac'],
  'video.mp4': ['-map', '1:v', '-c:v', 'mpeg4', '-c:a', 'aac', '-movflags', '+faststart'],
  'fragmented.mp4': [
    '-c:a',
    'aac',
    '-movflags',
    'frag_keyframe+empty_moov+default_base_moof',
    '-frag_duration',
    '500000',
  ],
  'lame.mp3': ['-c:a', 'libmp3lame', '-metadata', 'title=A title'],
  'vorbis.ogg': ['-c:a', 'libvorbis'],
  'opus.ogg': ['-c:a', 'libopus'],
  'stereo.wav': ['-c:a', 'pcm_s16le', '-ar', '16000', '-ac', '2'],
  'float.wav': ['-c:a', 'pcm_f32le', '-ar', '8000'],
  'opus.webm': ['-c:a', 'libopus'],
  'vorbis.webm': ['-map', '1:v', '-c:v', 'libvpx', '-c:a', 'libvorbis'],
};

/** Far more than such a file can take by right. */
const FILE_TIMEOUT_MS = 60_000;
const MEMORY_GROWTH_LIMIT_BYTES = 16 * 2 ** 20;

/**
 * Breaks valid files in every way and gives each to the real ingest, as a job of its own. Each must end in audio or in
 * a problem of the file, and nothing of it may stay: no process, no descriptor, no file, no memory.
 * The same seed makes the same files.
 */
export async function runFuzz({
  seed,
  files,
  from = 0,
  ffmpegPath,
  log = () => {},
}: FuzzOptions): Promise<FuzzReport> {
  const folder = mkdtempSync(join(tmpdir(), 'fuzz-'));
  const store = { ...(await makeWorkerStore()), timing: CLOUD_TIMING };
  const report: FuzzReport = {
    seed,
    files,
    ends: {},
    longestMs: 0,
    longestFile: '',
    totalSeconds: 0,
    memoryGrowthBytes: 0,
    violations: [],
  };
  try {
    const samples = await makeSamples(ffmpegPath, folder);
    const scratchDir = mkdtempSync(join(folder, 'scratch-'));
    const startedAtMs = performance.now();
    const warmUp = Math.ceil(files / 10);
    let descriptors = 0;
    let memoryBytes = 0;
    for (let n = 0; n < files; n++) {
      // Each has numbers of its own, so that it can be made again without the others.
      const random = mulberry32(seed * 1_000_003 + from + n);
      const [name, original] = samples[Math.floor(random() * samples.length)] as [string, Buffer];
      const { bytes, mutations } = mutate(original, random);
      const channels = random() < 0.25 ? 'separate' : 'mix';
      const description = `file ${from + n} (${name}, ${channels}: ${mutations.join(', ')})`;

      const fileStartedAtMs = performance.now();
      const { end, violations } = await feed(store, { ffmpegPath, scratchDir }, bytes, channels);
      const tookMs = performance.now() - fileStartedAtMs;

      log(`${description}: ${end} in ${Math.round(tookMs)} ms`);
      report.ends[end] = (report.ends[end] ?? 0) + 1;
      if (tookMs > report.longestMs) {
        report.longestMs = Math.round(tookMs);
        report.longestFile = description;
      }
      for (const violation of violations) report.violations.push(`${description}: ${violation}`);
      if (n + 1 === warmUp) {
        descriptors = openDescriptors();
        memoryBytes = heldBytes();
      }
    }
    report.totalSeconds = Math.round((performance.now() - startedAtMs) / 100) / 10;
    report.memoryGrowthBytes = heldBytes() - memoryBytes;
    if (report.memoryGrowthBytes > MEMORY_GROWTH_LIMIT_BYTES) report.violations.push('memory has grown');
    const leaked = openDescriptors() - descriptors;
    if (leaked > 0) report.violations.push(`${leaked} descriptors were left open`);
    for (const file of [...filesBelow(blobFolder(store)), ...filesBelow(scratchDir)])
      report.violations.push(`${file} was left behind`);
    return report;
  } finally {
    await store.remove();
    rmSync(folder, { recursive: true });
  }
}

async function makeSamples(ffmpegPath: string, folder: string): Promise<[string, Buffer][]> {
  const length = ['-t', '3', '-f', 'lavfi'];
  const inputs = [
    ...[...length, '-i', 'sine=frequency=300:beep_factor=4:sample_rate=44100'],
    ...[...length, '-i', 'testsrc=size=64x48:rate=10'],
  ];
  const outputs = Object.entries(SAMPLES).flatMap(([name, options]) => [
    ...['-map', '0:a', ...options, '-threads', '1', '-fflags', '+bitexact', '-flags', '+bitexact'],
    join(folder, name),
  ]);
  await ffmpeg(ffmpegPath, [...inputs, ...outputs]);
  return Object.keys(SAMPLES).map((name) => [name, readFileSync(join(folder, name))]);
}

/** One file, from its submission until its job is deleted. */
async function feed(
  store: WorkerStore,
  tools: { ffmpegPath: string; scratchDir: string },
  bytes: Buffer,
  channels: 'mix' | 'separate',
): Promise<{ end: string; violations: string[] }> {
  const job = await store.submit({ channels }, bytes);
  const deadline = AbortSignal.timeout(FILE_TIMEOUT_MS);
  const outcome = await ingest(store, { ...tools, access: NO_ACCESS }, { type: 'ingest', job }, deadline);
  const { end, violations } = deadline.aborted
    ? { end: 'timeout', violations: [`it took more than ${FILE_TIMEOUT_MS} ms`] }
    : await judge(store, job, outcome);
  if (childPids().length > 0) violations.push('a process was left');
  await deleteJob(store, job);
  return { end, violations };
}

async function judge(
  store: WorkerStore,
  job: JobRef,
  outcome: Outcome,
): Promise<{ end: string; violations: string[] }> {
  const record = await store.record(job);
  const violations: string[] = [];
  const blobs: Record<string, number> = {};
  for await (const { key, sizeBytes } of store.blobs.list(mediaPrefix(job))) blobs[key] = sizeBytes;

  if (outcome.kind === 'done') {
    const { media, audio, playback } = record.objects;
    const kept = [media, ...(audio ?? []), playback];
    if (audio === null || !kept.every((key) => key !== null && (blobs[key] ?? 0) > 0))
      violations.push('it is said to be done, and its audio is not there');
    if (Object.keys(blobs).length !== kept.length)
      violations.push('it has blobs that its record does not name');
    if (!(Number(record.duration_seconds) > 0)) violations.push('its audio has no length');
    return { end: record.warnings.length > 0 ? 'audio, with a warning' : 'audio', violations };
  }

  if (outcome.kind !== 'failed') {
    const why = 'error' in outcome ? outcome.error : undefined;
    return { end: outcome.kind, violations: [`it ended in ${outcome.kind}: ${why?.cause ?? why}`] };
  }
  const slug = record.problem === null ? 'no problem' : problemSlug(record.problem);
  const isChannels = slug === 'invalid-option' && record.problem?.field === 'channels';
  if (!MEDIA_PROBLEMS.includes(slug as ProblemSlug) && !isChannels) violations.push(`it ended in ${slug}`);
  if (Object.keys(blobs).length > 0) violations.push('it has failed, and blobs of it are left');
  if ((await store.records.read(activeKey(job))) !== undefined)
    violations.push('it has failed, and its marker is left');
  return { end: slug, violations };
}

const blobFolder = (store: WorkerStore): string => join(store.blobs.localPath('any'), '..');

function filesBelow(folder: string): string[] {
  return readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name));
}

/** Where there is no /proc nothing can be said: 0. */
function openDescriptors(): number {
  try {
    return readdirSync('/proc/self/fd').length;
  } catch {
    return 0;
  }
}

function heldBytes(): number {
  setFlagsFromString('--expose-gc');
  runInNewContext('gc')();
  const { heapUsed, external } = process.memoryUsage();
  return heapUsed + external;
}
