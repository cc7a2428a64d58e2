import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Backend } from '../../core/backends.ts';
import { readJson } from '../../core/blobs/blobs.ts';
import { readInstallation } from '../../core/installation.ts';
import type { JobRef } from '../../core/objects.ts';
import type { Outcome } from '../../core/tasks/outcome.ts';
import type { WorkerContext } from '../../core/tasks/worker-context.ts';
import { Transcript } from '../../core/transcript.ts';
import { ingest } from '../../cpu-service/ingest.ts';
import { Plan } from '../../cpu-service/voxtral/answered-piece.ts';
import type { Patience } from '../../cpu-service/voxtral/ask-patiently.ts';
import { UploadCarrier } from '../../cpu-service/voxtral/audio-carrier.ts';
import { openMistral } from '../../cpu-service/voxtral/mistral.ts';
import {
  transcribeWithVoxtral,
  type VoxtralTools,
} from '../../cpu-service/voxtral/transcribe-with-voxtral.ts';
import { makeWorkerStore, NO_ACCESS, type WorkerStore } from './worker-store.ts';

export const BACKENDS: Backend[] = [
  { name: 'gpu', kind: 'standalone', tier: 'premium' },
  { name: 'voxtral', kind: 'voxtral', tier: 'standard' },
];

/** Never longer than a test. */
export const QUICK: Patience = {
  backoff: { minMs: 1, maxMs: 4, maxDoublings: 2 },
  totalWaitMs: 5_000,
  lostAnswers: 20,
  requestMs: 60_000,
  requestMsPerSecond: 0,
  maxRequestMs: 60_000,
};

/** Pieces of ten seconds at most, where the real ones are half an hour. */
export const PIECE_SECONDS = { withSpeakers: 10, without: 10 };

const never = new AbortController().signal;

/** A worker of the tier standard on a store of its own. */
export interface VoxtralWorker {
  store: WorkerStore;
  ffmpegPath: string;
  scratchDir: string;
  tools(apiUrl: string, changes?: Partial<VoxtralTools>): VoxtralTools;
  /** A job that ingest is done with. */
  submit(fields: Record<string, unknown>, media: Uint8Array): Promise<JobRef>;
  attempt(
    job: JobRef,
    tools: VoxtralTools,
    how?: { signal?: AbortSignal; part?: number; context?: Partial<WorkerContext> },
  ): Promise<Outcome>;
  transcript(job: JobRef): Promise<Transcript>;
  plan(job: JobRef): Promise<Plan>;
  /** @throws when something was left in the scratch folder */
  remove(): Promise<void>;
}

export async function makeVoxtralWorker(): Promise<VoxtralWorker> {
  const store = await makeWorkerStore();
  store.backends = BACKENDS;
  const scratchDir = await mkdtemp(join(tmpdir(), 'voxtral-'));
  const ffmpegPath = readInstallation().ffmpeg;
  return {
    store,
    ffmpegPath,
    scratchDir,
    tools: (apiUrl, changes = {}) => ({
      mistral: openMistral({ apiKey: 'test-key', endpoint: apiUrl }),
      carrier: new UploadCarrier(store.blobs, scratchDir),
      ffmpegPath,
      access: NO_ACCESS,
      patience: QUICK,
      grace: { timeIsUpMs: 10_000, interruptedMs: 10_000 },
      pieceSeconds: PIECE_SECONDS,
      ...changes,
    }),
    async submit(fields, media) {
      const job = await store.submit({ tier: 'standard', ...fields }, media);
      const tools = { ffmpegPath, scratchDir, access: NO_ACCESS };
      const outcome = await ingest(store, tools, { type: 'ingest', job }, never);
      if ('error' in outcome) throw outcome.error;
      return job;
    },
    attempt: (job, tools, { signal = never, part = 1, context = {} } = {}) =>
      transcribeWithVoxtral({ ...store, ...context }, tools, { type: 'transcribe', job, part }, signal),
    async transcript(job) {
      const { objects } = await store.record(job);
      return Transcript.parse(await readJson(store.blobs, objects.transcript as string));
    },
    async plan(job) {
      const { checkpoints } = await store.record(job);
      return Plan.parse(await readJson(store.blobs, checkpoints.speech as string));
    },
    async remove() {
      await store.remove();
      const left = await readdir(scratchDir);
      await rm(scratchDir, { recursive: true });
      if (left.length > 0) throw new Error(`left in the scratch folder: ${left.join(', ')}`);
    },
  };
}
