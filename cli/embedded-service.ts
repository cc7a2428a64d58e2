import { randomUUID } from 'node:crypto';
import { pino } from 'pino';
import { createLog } from '../core/log.ts';
import { temporaryFolder } from './temporary-folder.ts';

/** A service that is reached over HTTP for the time of one command. */
export interface JobService {
  url: string;
  apiKey?: string | undefined;
  /** Which model it uses when none is asked for, and why, where it says. */
  modelReason?: string | undefined;
  /** Aborts with an error for the operator when the service cannot go on. */
  failure?: AbortSignal;
  stop(): Promise<void>;
}

/**
 * The whole service inside this process, on a port of its own and with a key that nobody else knows.
 * Its data folder is temporary: it is gone once the service has stopped or this process has ended.
 */
export async function startEmbeddedService({
  logFile,
}: {
  logFile?: string | undefined;
}): Promise<JobService> {
  const { readStandaloneConfig } = await import('../standalone/config.ts');
  const { startStandalone } = await import('../standalone/start-standalone.ts');
  const folder = temporaryFolder();
  try {
    const apiKey = randomUUID();
    const config = readStandaloneConfig({
      ...process.env,
      HOST: '127.0.0.1',
      PORT: '0',
      DATA_DIR: folder.path,
      API_KEYS: `local:${apiKey}`,
    });
    const log =
      logFile === undefined
        ? createLog('standalone', { level: 'silent' })
        : createLog('standalone', { destination: pino.destination({ dest: logFile, sync: true }) });
    const failure = new AbortController();
    const standalone = await startStandalone({
      config,
      log,
      // Final or not: this service has only our jobs, and somebody is waiting for them.
      onUnavailable: ({ reason }) => failure.abort(new Error(reason)),
    });
    return {
      url: standalone.url,
      apiKey,
      modelReason: standalone.modelReason,
      failure: failure.signal,
      stop: async () => {
        await standalone.stop().finally(folder.remove);
      },
    };
  } catch (error) {
    folder.remove();
    throw error;
  }
}

export interface ServeOptions {
  host?: string;
  port?: number;
  dataDir?: string;
}

/** The service as configured by the environment, with what the command line sets in front. */
export async function startService({ host, port, dataDir }: ServeOptions): Promise<JobService> {
  const { readStandaloneConfig } = await import('../standalone/config.ts');
  const { startStandalone } = await import('../standalone/start-standalone.ts');
  const config = readStandaloneConfig({
    ...process.env,
    ...(host === undefined ? {} : { HOST: host }),
    ...(port === undefined ? {} : { PORT: String(port) }),
    ...(dataDir === undefined ? {} : { DATA_DIR: dataDir }),
  });
  const failure = new AbortController();
  const standalone = await startStandalone({
    config,
    log: createLog('standalone', { level: config.logLevel }),
    onUnavailable: ({ reason, isFinal }) => {
      if (isFinal) failure.abort(new Error(reason));
    },
  });
  return { url: standalone.url, failure: failure.signal, stop: () => standalone.stop() };
}
