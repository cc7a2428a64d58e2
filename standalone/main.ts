import { runService } from '../core/run-service.ts';
import { readStandaloneConfig } from './config.ts';
import { startStandalone } from './start-standalone.ts';

// The one-machine service without the command line, as the GPU image has it.

await runService('standalone', readStandaloneConfig, async (config, log) => {
  const failure = new AbortController();
  const standalone = await startStandalone({
    config,
    log,
    onUnavailable: ({ reason, isFinal }) => {
      if (isFinal) failure.abort(new Error(reason));
    },
  });
  return { failure: failure.signal, stop: () => standalone.stop() };
});
