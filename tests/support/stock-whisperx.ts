import { existsSync, symlinkSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { delimiter, dirname, join } from 'node:path';
import type { Installation } from '../../core/installation.ts';

/** WhisperX's own command line, by default on the packaged model, without a network: what ours is compared with. */
export function stockWhisperX(
  { python, ffmpeg, device, packaged_model }: Installation,
  {
    files,
    outDir,
    formats,
    modelPath = packaged_model.path,
  }: { files: readonly string[]; outDir: string; formats: string; modelPath?: string },
): { command: string[]; env: NodeJS.ProcessEnv } {
  // It calls `ffmpeg` by name.
  if (!existsSync(join(outDir, 'ffmpeg'))) symlinkSync(ffmpeg, join(outDir, 'ffmpeg'));
  return {
    command: [
      join(dirname(python), 'whisperx'),
      ...files,
      '--model',
      modelPath,
      '--language',
      'en',
      '--device',
      device,
      '--compute_type',
      device === 'cuda' ? 'float16' : 'int8',
      // As many as ours has; its own default is four for CTranslate2, whatever the machine.
      '--threads',
      String(availableParallelism()),
      '--no_align',
      '--vad_method',
      'pyannote',
      '--output_dir',
      outDir,
      '--output_format',
      formats,
    ],
    env: {
      ...process.env,
      PATH: `${outDir}${delimiter}${process.env.PATH ?? ''}`,
      HF_HUB_OFFLINE: '1',
      PYANNOTE_METRICS_ENABLED: '0',
    },
  };
}
