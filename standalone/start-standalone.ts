import type { Logger } from '../core/log.ts';
import type { Unavailability } from '../gpu-service/supervisor/supervised-sidecar.ts';
import { openTranscriber } from '../gpu-service/transcriber.ts';
import type { StandaloneConfig } from './config.ts';
import { ownFolder } from './own-folder.ts';
import type { Standalone } from './standalone.ts';

/** When the service cannot start. */
const SIDECAR_STOP_TIMEOUT_MS = 2_500;

/** See runStandalone. */
export async function startStandalone({
  config,
  log,
  onUnavailable,
}: {
  config: StandaloneConfig;
  log: Logger;
  /** The transcriber cannot run. Jobs wait meanwhile; if it is final, they wait in vain. */
  onUnavailable(unavailability: Unavailability): void;
}): Promise<Standalone> {
  await using started = new AsyncDisposableStack();
  // First of all: models of a second service would take the GPU's memory from the jobs of the one that is there.
  started.defer(ownFolder(config.dataDir));
  const transcriber = openTranscriber(config.gpu, config.installation, { log, onUnavailable });
  started.defer(() => transcriber.sidecars.stop(SIDECAR_STOP_TIMEOUT_MS));
  // Loaded only now: the sidecar takes longest, so nothing that it does not need comes before it.
  const { runStandalone } = await import('./standalone.ts');
  return runStandalone({ config, log, transcriber, started: started.move() });
}
