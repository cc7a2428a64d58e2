import { execFile } from 'node:child_process';
import { mkdtemp, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { type Installation, readInstallation, readTools } from '../../core/installation.ts';
import { createLog } from '../../core/log.ts';
import { SAMPLE_RATE } from '../../core/sample-rate.ts';
import { sampleRecording } from '../../core/sample-recording.ts';
import { readGpuConfig } from '../../gpu-service/config.ts';
import type {
  AlignedChunk,
  Chunk,
  PcmFile,
  TranscribedChunk,
} from '../../gpu-service/supervisor/protocol.ts';
import { openTranscriber } from '../../gpu-service/transcriber.ts';

// The last step of a build, and by hand in an image: ffmpeg runs, and every model that is there does its work on the
// sample recording, on the CPU. The first thing that fails ends it with an exit code.

const SAID_IN_SAMPLE = /New Jersey/;
const STOP_TIMEOUT_MS = 2_000;

const folder = await mkdtemp(join(tmpdir(), 'smoke-test-'));
try {
  const { ffmpeg } = readTools();
  await run(ffmpeg, ['-version']);
  console.log('ffmpeg runs.');
  await loadServices();
  const installation = installedTranscriber();
  if (installation === undefined) console.log('There is no transcriber in this image.');
  else await testModels(installation, await decodeSample(installation));
} finally {
  await rm(folder, { recursive: true });
}

/** What the services load when they start. NODE_COMPILE_CACHE keeps it compiled for their own starts. */
async function loadServices(): Promise<void> {
  await Promise.all([
    import('../../api/app.ts'),
    import('../../cpu-service/ingest.ts'),
    import('../../cpu-service/reconcile.ts'),
    import('../../gpu-service/serve-tasks.ts'),
    import('@google-cloud/storage'),
    import('@google-cloud/tasks'),
  ]);
  console.log('The services can be loaded.');
}

function installedTranscriber(): Installation | undefined {
  try {
    return readInstallation();
  } catch {
    return undefined;
  }
}

async function decodeSample({ ffmpeg, python }: Installation): Promise<PcmFile> {
  const path = join(folder, 'sample.pcm');
  const format = ['-f', 's16le', '-ac', '1', '-ar', String(SAMPLE_RATE)];
  await run(ffmpeg, ['-v', 'error', '-i', sampleRecording(python), ...format, path]);
  return { path, samples: (await stat(path)).size / 2 };
}

async function testModels(installation: Installation, audio: PcmFile): Promise<void> {
  const config = readGpuConfig({ ...process.env, WHISPER_DEVICE: 'cpu' }, installation);
  const { sidecars, capabilities } = openTranscriber(config, installation, {
    log: createLog('smoke-test', { level: 'warn' }),
    onUnavailable: ({ reason }) => fail(reason),
  });
  try {
    let chunks: Chunk[] = [];
    // Pyannote's shows that PyTorch works, also in an image without models for words and speakers.
    for (const method of ['pyannote', 'silero'] as const) {
      const thresholds = { vad_onset: 0.5, vad_offset: 0.363, chunk_size: 30 };
      ({ chunks } = await sidecars.run({ type: 'detect_speech', audio, method, ...thresholds }));
      if (chunks.length === 0) fail(`${method} found no speech in the sample recording.`);
    }
    let spoken: (Chunk & { text: string })[] = [];
    for (const { name } of capabilities.models) {
      spoken = [];
      await sidecars.run(
        {
          type: 'transcribe',
          audio,
          model: name,
          chunks,
          language: 'en',
          task: 'transcribe',
          prompt: null,
          hotwords: null,
          word_timestamps: true,
        },
        { onBatch: (batch: TranscribedChunk[]) => void spoken.push(...batch) },
      );
      const text = spoken.map((chunk) => chunk.text).join('');
      if (!SAID_IN_SAMPLE.test(text)) fail(`The model ${name} wrote: ${text}`);
      console.log(`${name} transcribes.`);
    }
    for (const language of capabilities.alignment_languages) {
      const aligned: AlignedChunk[] = [];
      await sidecars.run(
        {
          type: 'align',
          audio,
          language,
          chunks: spoken.map(({ start, end, text }) => ({ start, end, text })),
        },
        { onBatch: (batch: AlignedChunk[]) => void aligned.push(...batch) },
      );
      // Models for other writing find nothing in the words of the sample, but have been loaded and run.
      if (aligned.length !== spoken.length) fail(`The alignment model for ${language} answered too little.`);
      console.log(`The alignment model for ${language} runs.`);
    }
    if (capabilities.can_diarize) {
      const speakers = { num_speakers: null, min_speakers: null, max_speakers: null };
      const { turns } = await sidecars.run({ type: 'diarize', audio, ...speakers });
      if (turns.length === 0) fail('Diarization heard nobody in the sample recording.');
      console.log('Diarization runs.');
    } else {
      console.log('There is no diarization model: jobs cannot ask for speakers.');
    }
  } finally {
    await sidecars.stop(STOP_TIMEOUT_MS);
  }
}

async function run(command: string, args: string[]): Promise<void> {
  await promisify(execFile)(command, args);
}

function fail(what: string): never {
  console.error(what);
  process.exit(1);
}
