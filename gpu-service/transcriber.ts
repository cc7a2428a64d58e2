import type { Capabilities } from '../core/capabilities.ts';
import type { Installation } from '../core/installation.ts';
import type { Logger } from '../core/log.ts';
import { describeCapabilities } from './capabilities.ts';
import type { GpuConfig } from './config.ts';
import { alignmentModels, findModels, type Models } from './models.ts';
import { sidecarCommand, sidecarEnvironment } from './supervisor/command.ts';
import type { SidecarConfig } from './supervisor/protocol.ts';
import { Sidecars } from './supervisor/sidecars.ts';
import type { Unavailability } from './supervisor/supervised-sidecar.ts';

/**
 * A GPU that hangs is found out after five minutes. On a CPU nothing hangs, but a batch takes as long as other programs
 * let it: with a larger model on a busy machine, more than that.
 */
const CPU_STALL_TIMEOUT_MS = 1_800_000;

export interface Transcriber {
  sidecars: Sidecars;
  capabilities: Capabilities;
  models: Models;
  /** See TranscribeTools. */
  overlapsStages: boolean;
}

/** The sidecar with this machine's models, loading already, and what it will be able to do. */
export function openTranscriber(
  config: GpuConfig,
  installation: Installation,
  { log, onUnavailable }: { log: Logger; onUnavailable: (unavailability: Unavailability) => void },
): Transcriber {
  const models = findModels({
    modelsDir: config.modelsDir,
    packaged: installation.packaged_model,
    whisperModel: config.whisperModel,
    device: config.device,
  });
  const sidecarConfig: Omit<SidecarConfig, 'role'> = {
    models: Object.fromEntries(models.models.map(({ name, path }) => [name, path])),
    default_model: models.default_model,
    device: config.device,
    compute_type: config.computeType,
    cpu_threads: config.cpuThreads,
    batch_size: config.batchSize,
    alignment_models: alignmentModels(config.alignmentModelDir),
    diarization_model: config.diarizationModel ?? null,
  };
  const capabilities = describeCapabilities(models, sidecarConfig);
  const sidecars = new Sidecars({
    commandOf: (role) =>
      config.sidecarCommand ?? sidecarCommand({ role, ...sidecarConfig }, installation.python),
    env: sidecarEnvironment(process.env),
    log,
    timeouts: config.device === 'cpu' ? { stallTimeoutMs: CPU_STALL_TIMEOUT_MS } : {},
    onUnavailable,
    expectsAnnotations: capabilities.alignment_languages.length > 0 || capabilities.can_diarize,
  });
  sidecars.start();
  return { sidecars, capabilities, models, overlapsStages: config.device === 'cuda' };
}
