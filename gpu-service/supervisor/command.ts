import { join } from 'node:path';
import type { SidecarConfig } from './protocol.ts';

const SIDECAR_FOLDER = join(import.meta.dirname, '..', 'sidecar');

/** What Python, CUDA and the math libraries need. API keys, tokens and signing keys of the service are not among it. */
const PASSED_ON =
  /^(PATH|HOME|USER|LANG|LC_\w+|TZ|TMPDIR|LD_LIBRARY_PATH|LD_PRELOAD|XDG_CACHE_HOME|HF_HOME|HF_HUB_CACHE|TORCH_HOME|(CUDA|NVIDIA|CUDNN|NCCL|CT2|OMP|MKL|KMP|OPENBLAS|PYTORCH)_\w+)$/;

/**
 * glibc gives each large block back to the kernel when it is freed, and the kernel clears it when it is asked for
 * again. Whisper's encoder frees and asks for tens of megabytes per layer: on a CPU that was a third of its processor
 * time (docs/performance.md). With these it keeps up to 256 MiB to use again.
 */
export const KEEPS_LARGE_BLOCKS = {
  MALLOC_MMAP_THRESHOLD_: String(2 ** 27),
  MALLOC_TRIM_THRESHOLD_: String(2 ** 28),
} as const;

/**
 * Threads of OpenMP that wait for each other actively take the processor from the very thread that they wait for, as
 * soon as another program is busy too: the sample then took 8 to 120 s instead of 3.5 s (docs/performance.md).
 */
export const WAITS_PASSIVELY = { OMP_WAIT_POLICY: 'PASSIVE' } as const;

/** `python` is the interpreter of the virtual environment that has the engine. */
export function sidecarCommand(config: SidecarConfig, python: string): string[] {
  return [python, '-m', 'zeroscribe_sidecar', JSON.stringify(config)];
}

/** An environment that lets nothing of ours out, and no library of the sidecar onto the network. */
export function sidecarEnvironment(env: NodeJS.ProcessEnv): NodeJS.ProcessEnv {
  const passedOn = Object.entries(env).filter(([name]) => PASSED_ON.test(name));
  return {
    ...WAITS_PASSIVELY,
    ...Object.fromEntries(passedOn),
    PYTHONPATH: SIDECAR_FOLDER,
    PYTHONUNBUFFERED: '1',
    // A crash in native code leaves its Python stack in the log.
    PYTHONFAULTHANDLER: '1',
    HF_HUB_OFFLINE: '1',
    TRANSFORMERS_OFFLINE: '1',
    HF_HUB_DISABLE_TELEMETRY: '1',
    PYANNOTE_METRICS_ENABLED: '0',
    ORT_DISABLE_TELEMETRY: '1',
    TOKENIZERS_PARALLELISM: 'false',
    ...KEEPS_LARGE_BLOCKS,
  };
}
