import { existsSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { z } from 'zod';
import type { Backend } from '../core/backends.ts';
import { ConfigError, readEnvironment } from '../core/environment.ts';
import { type Installation, REPOSITORY_ROOT } from '../core/installation.ts';

export const BACKEND_ENVIRONMENT = z.object({
  BACKEND: z
    .string()
    .optional()
    .describe('Which of BACKENDS this gpu-service is; not needed when there is only one.'),
});

export const GPU_ENVIRONMENT = z.object({
  WHISPER_MODEL: z
    .string()
    .default('auto')
    .describe(
      'The model: a name from MODELS_DIR, the folder of a CTranslate2 model, or `auto` (the default).',
    ),
  WHISPER_DEVICE: z
    .enum(['auto', 'cpu', 'cuda'])
    .default('auto')
    .describe('Where the models run: `cpu`, `cuda`, or `auto` (the default), what set-up found.'),
  WHISPER_COMPUTE_TYPE: z
    .string()
    .default('auto')
    .describe('CTranslate2’s number format; `auto` (the default) is `float16` on CUDA, `int8` on a CPU.'),
  MODELS_DIR: z
    .string()
    .default(join(REPOSITORY_ROOT, 'models'))
    .describe('Folder of models: Whisper’s, one folder each, and those named below; default `models`.'),
  ALIGNMENT_MODEL_DIR: z
    .string()
    .optional()
    .describe(
      'Folder of wav2vec2 models for word times, one folder per language code; default `alignment` in MODELS_DIR. Without a model for a language, cross-attention.',
    ),
  SIDECAR_COMMAND: z
    .string()
    .transform((text, context): string[] => {
      try {
        return z.array(z.string()).min(1).parse(JSON.parse(text));
      } catch {
        context.addIssue('must be a JSON list of words');
        return z.NEVER;
      }
    })
    .optional()
    .describe(
      'Another program that speaks the protocol of the sidecar, as a JSON list; for tests. It is started twice, as recognizer and as annotator, and not told which it is.',
    ),
  DIARIZATION_MODEL: z
    .string()
    .optional()
    .describe(
      'Folder or `config.yaml` of a pyannote pipeline; default `diarization` in MODELS_DIR. Without one, speakers cannot be asked for.',
    ),
});

/** The backend whose tasks this service takes. */
export function readBackendName(env: NodeJS.ProcessEnv, backends: readonly Backend[]): string {
  const { BACKEND } = readEnvironment(BACKEND_ENVIRONMENT, env);
  const [only, ...others] = backends;
  const name = BACKEND ?? (others.length === 0 ? only?.name : undefined);
  if (name === undefined || !backends.some((backend) => backend.name === name)) {
    throw new ConfigError('Set BACKEND to the name in BACKENDS that this service stands for.');
  }
  return name;
}

export interface GpuConfig {
  whisperModel: string;
  device: 'cpu' | 'cuda';
  computeType: string;
  modelsDir: string;
  /** It may be missing. */
  alignmentModelDir: string;
  diarizationModel: string | undefined;
  cpuThreads: number;
  /** Instead of the real sidecar. */
  sidecarCommand: string[] | undefined;
  batchSize: number;
}

export function readGpuConfig(env: NodeJS.ProcessEnv, installation: Installation): GpuConfig {
  const values = readEnvironment(GPU_ENVIRONMENT, env);
  const device = values.WHISPER_DEVICE === 'auto' ? installation.device : values.WHISPER_DEVICE;
  return {
    whisperModel: values.WHISPER_MODEL,
    device,
    computeType:
      values.WHISPER_COMPUTE_TYPE === 'auto' ? defaultComputeType(device) : values.WHISPER_COMPUTE_TYPE,
    modelsDir: values.MODELS_DIR,
    alignmentModelDir: values.ALIGNMENT_MODEL_DIR ?? join(values.MODELS_DIR, 'alignment'),
    diarizationModel: values.DIARIZATION_MODEL ?? diarizationModelIn(values.MODELS_DIR),
    sidecarCommand: values.SIDECAR_COMMAND,
    cpuThreads: availableParallelism(),
    // WhisperX's own default on a CPU. On a GPU the sidecar goes by the memory that is free, where that is known.
    batchSize: device === 'cuda' ? 16 : 8,
  };
}

function diarizationModelIn(modelsDir: string): string | undefined {
  const folder = join(modelsDir, 'diarization');
  return existsSync(join(folder, 'config.yaml')) ? folder : undefined;
}

function defaultComputeType(device: 'cpu' | 'cuda'): string {
  return device === 'cuda' ? 'float16' : 'int8';
}
