import { once } from 'node:events';
import { ConfigError, readLogLevel, readTogether } from './environment.ts';
import { createLog, type Logger } from './log.ts';

export interface RunningService {
  /** Gives back what it works on, within the ten seconds that Cloud Run leaves between SIGTERM and SIGKILL. */
  stop(): Promise<void>;
  /** Aborts when the service cannot go on; the platform then replaces the instance. */
  failure?: AbortSignal;
  /** Of one that does its work and ends: the exit code. */
  finished?: Promise<number>;
}

/** The life of a service's process: start, wait for a signal or for its end, stop, exit. A wrong environment is told in a sentence. */
export async function runService<C>(
  name: string,
  readConfig: (env: NodeJS.ProcessEnv) => C,
  start: (config: C, log: Logger) => Promise<RunningService>,
): Promise<void> {
  let log = createLog(name);
  const stopping = new AbortController();
  for (const signal of ['SIGTERM', 'SIGINT'] as const) process.once(signal, () => stopping.abort());
  try {
    const { level, config } = readTogether({
      level: () => readLogLevel(process.env),
      config: () => readConfig(process.env),
    });
    log = createLog(name, { level });
    const service = await start(config, log);
    const { failure, finished } = service;
    const end = failure === undefined ? stopping.signal : AbortSignal.any([stopping.signal, failure]);
    const ends = end.aborted ? [] : [once(end, 'abort'), ...(finished === undefined ? [] : [finished])];
    if (ends.length > 0) await Promise.race(ends);
    await service.stop();
    // One that was stopped before it could say how it ended has recorded nothing.
    const exitCode = finished === undefined ? 0 : await Promise.race([finished, 1]);
    log.info('stopped');
    process.exit(failure?.aborted ? 1 : exitCode);
  } catch (error) {
    if (error instanceof ConfigError) process.stderr.write(`${error.message}\n`);
    else log.fatal({ err: error }, 'the service cannot run');
    process.exit(1);
  }
}
