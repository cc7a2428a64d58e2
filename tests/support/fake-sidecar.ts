import { existsSync } from 'node:fs';
import { join } from 'node:path';
import type { SidecarCommand, SidecarConfig } from '../../gpu-service/supervisor/protocol.ts';

/** Described in the fake's own first lines. */
export type FakeMode =
  | 'good'
  | 'chatty'
  | 'no-start'
  | 'refused'
  | 'never-ready'
  | 'deaf'
  | 'crash'
  | 'wedged'
  | 'garbled'
  | 'malformed'
  | 'endless'
  | 'oom'
  | 'failing'
  | 'deaf-to-cancel'
  | 'forgetful'
  | 'spawns-child';

export interface FakeOptions {
  /** What it detects; default en. */
  language?: string;
  batchDelayMs?: number;
  startDelayMs?: number;
  /** A file: the fake is not ready before it is there. */
  readyWhen?: string;
  /** What speech detection, alignment and diarization take the first time they are needed. */
  firstUseMs?: number;
  /** With `failing` and `refused`. */
  reason?: string;
  /** The only type of command that meets the misbehaviour. */
  at?: SidecarCommand['type'];
  /** Batches of a `transcribe` or `align` that come before the misbehaviour. */
  batchesBefore?: number;
  /** A file that is not there yet: only the first command meets the misbehaviour, which makes the file. */
  once?: string;
  /** As the real sidecar gets it; `batch_size` and `default_model` matter to the fake. */
  config?: Partial<SidecarConfig>;
}

const ROOT = join(import.meta.dirname, '..', '..');
const FAKE = join(ROOT, 'gpu-service', 'sidecar', 'fake', 'fake_sidecar.py');
const VENV_PYTHON = join(ROOT, '.venv', 'bin', 'python');

/** The command line of a sidecar that holds no model and starts in a few hundredths of a second. */
export function fakeSidecarCommand(mode: FakeMode, options: FakeOptions = {}): string[] {
  const { config, ...rest } = options;
  const named = Object.entries(rest).map(([name, value]) => `${toSnakeCase(name)}=${value}`);
  const python = existsSync(VENV_PYTHON) ? VENV_PYTHON : 'python3';
  // -I -S: neither site-packages nor the environment, which is most of Python's start.
  const command = [python, '-I', '-S', FAKE, `mode=${mode}`, ...named];
  return config === undefined ? command : [...command, JSON.stringify(config)];
}

function toSnakeCase(name: string): string {
  return name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
}
