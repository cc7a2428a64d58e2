import { execFile } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';

interface Verdict {
  command_string: string;
  success: boolean;
  error_message: string | null;
}

const TIMEOUT_MS = 120_000;

/** gcloud's own check that commands exist and have these flags; it sends nothing and needs no account. */
export async function lintGcloudCommands(commands: readonly string[]): Promise<string[]> {
  const folder = await mkdtemp(join(tmpdir(), 'zeroscribe-lint-'));
  try {
    const file = join(folder, 'commands.json');
    await writeFile(file, JSON.stringify(commands.map((command_string) => ({ command_string }))));
    const { stdout } = await promisify(execFile)(
      'gcloud',
      ['meta', 'lint-gcloud-commands', `--commands-file=${file}`],
      {
        env: { ...process.env, CLOUDSDK_CONFIG: folder, CLOUDSDK_CORE_DISABLE_PROMPTS: '1' },
        timeout: TIMEOUT_MS,
        maxBuffer: 256 * 1024 ** 2,
      },
    );
    const verdicts = JSON.parse(stdout) as Verdict[];
    const checked = new Set(verdicts.map(({ command_string }) => command_string));
    return [
      ...verdicts
        .filter(({ success }) => !success)
        .map(({ command_string, error_message }) => `${command_string}: ${error_message}`),
      ...commands
        .filter((command) => !checked.has(command))
        .map((command) => `${command}: was not looked at`),
    ];
  } finally {
    await rm(folder, { recursive: true });
  }
}

/** Whether there is a gcloud to ask. */
export async function hasGcloud(): Promise<boolean> {
  return await promisify(execFile)('gcloud', ['--version'], { timeout: TIMEOUT_MS }).then(
    () => true,
    () => false,
  );
}
