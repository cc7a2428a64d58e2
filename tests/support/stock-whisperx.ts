import { existsSync, symlinkSync } from 'node:fs';
import { delimiter, dirname, join } from 'node:path';
import type { Installation } from '../../core/installation.ts';

/** WhisperX's own command line on the packaged model, without a network: what ours is compared with. */
export function stockWhisperX(
  { python, ffmpeg, packaged_model }: Installation,
  { files, outDir, formats }: { files: readonly string[]; outDir: string; formats: string },
): { command: string[]; env: NodeJS.ProcessEnv } {
  // It calls `ffmpeg` by name.
  if (!existsSync(join(outDir, 'ffmpeg'))) symlinkSync(ffmpeg, join(outDir, 'ffmpeg'));
  return {
    command: [
      join(dirname(python), 'whisperx'),
      ...files,
      '--model',
      packaged_model.path,
      '--language',
      'en',
      '--device',
      'cpu',
      '--compute_type',
      'int8',
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
