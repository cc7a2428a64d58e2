import type { Logger } from '../core/log.ts';
import type { Unavailability } from '../gpu-service/supervisor/supervised-sidecar.ts';
import { openTranscriber } from '../gpu-service/transcriber.ts';
import type { StandaloneConfig } from './config.ts';
import type { Standalone } from './standalone.ts';

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
  const transcriber = openTranscriber(config.gpu, config.installation, { log, onUnavailable });
  // Loaded only now: the sidecar takes longest, so nothing that it does not need comes before it.
  const { runStandalone } = await import('./standalone.ts');
  return runStandalone({ config, log, transcriber });
}
