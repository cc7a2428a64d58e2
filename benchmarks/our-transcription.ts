import { type Installation, REPOSITORY_ROOT } from '../core/installation.ts';

/** Our command line, by default on the packaged model, from nothing to the written files: the whole service for one job. */
export function ourTranscription(
  { packaged_model }: Installation,
  transcription: {
    file: string;
    outDir: string;
    formats: string;
    model?: string;
    options?: readonly string[];
  },
): { command: string[]; env: NodeJS.ProcessEnv; cwd: string } {
  const { file, outDir, formats, model = packaged_model.name } = transcription;
  return {
    command: [
      ...[process.execPath, 'setup/zeroscribe.mjs', 'transcribe', file, '--language', 'en', '--model', model],
      ...['--format', formats, '--out', outDir],
      ...(transcription.options ?? []),
    ],
    env: process.env,
    cwd: REPOSITORY_ROOT,
  };
}
