import { createHash, randomBytes } from 'node:crypto';
import { ConfigError, readLogLevel, readTogether } from '../../../core/environment.ts';
import { readGpuServiceConfig } from '../../../gpu-service/service-config.ts';
import { readStandaloneConfig } from '../../../standalone/config.ts';
import { Refusal } from './refusal.ts';
import { type ServerMode, STATE_FOLDER } from './unit.ts';

export type Settings = Record<string, string>;

/** What stands above a variable in the file, for whoever opens it. */
export const COMMENTS: Settings = {
  API_KEYS: 'name:sha256:<hash of the key>, separated by commas; a new key: install.sh add-key NAME',
  URL_SIGNING_KEY: 'Signs links to media. A new one makes those that are out there invalid.',
  PUBLIC_URL: 'How clients reach the service.',
  TASK_AUDIENCE: 'How Cloud Tasks reaches the service: also what its tokens are made for.',
  BACKENDS: 'The same list in all services.',
};

export function modeOf(settings: Settings): ServerMode {
  return settings.CLOUD_TASKS_QUEUES === undefined ? 'standalone' : 'cloud-tasks';
}

export interface NewKey {
  name: string;
  key: string;
}

/** Only its hash is kept. */
export function addKey(settings: Settings, name: string): NewKey {
  const key = randomBytes(32).toString('base64url');
  const hashed = `${name}:sha256:${createHash('sha256').update(key).digest('hex')}`;
  settings.API_KEYS = settings.API_KEYS ? `${settings.API_KEYS},${hashed}` : hashed;
  return { name, key };
}

/**
 * What there is, with what is given put over it and what is missing made up. What an operator has changed stays.
 * @returns also the key of a first installation, which nobody can read afterwards
 */
export function completeSettings(
  mode: ServerMode,
  installed: Settings,
  given: Settings,
  { domain, port }: { domain?: string | undefined; port?: string | undefined },
): { settings: Settings; newKey: NewKey | undefined } {
  const settings: Settings = {
    ...(mode === 'standalone'
      ? { HOST: '127.0.0.1', PORT: '8080', DATA_DIR: STATE_FOLDER }
      : { HOST: '127.0.0.1', PORT: '8080', TASK_AUTH: 'verify' }),
    ...installed,
    ...given,
    ...(port !== undefined && { PORT: port }),
  };
  if (domain !== undefined) settings[addressOf(mode)] = `https://${domain}`;
  let newKey: NewKey | undefined;
  if (mode === 'standalone') {
    settings.URL_SIGNING_KEY ||= randomBytes(32).toString('base64url');
    if (!settings.API_KEYS) newKey = addKey(settings, 'default');
  }
  return { settings, newKey };
}

/** The variable that says how the world reaches the service. */
export const addressOf = (mode: ServerMode) => (mode === 'standalone' ? 'PUBLIC_URL' : 'TASK_AUDIENCE');

/** By the readers of the services themselves. @throws {Refusal} with everything that is wrong */
export function checkSettings(mode: ServerMode, settings: Settings): void {
  try {
    readTogether({
      service: () =>
        mode === 'standalone' ? readStandaloneConfig(settings) : readGpuServiceConfig(settings),
      level: () => readLogLevel(settings),
    });
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    throw new Refusal(
      `${error.message}\nThese variables come from --settings and /etc/zeroscribe/zeroscribe.env; docs/configuration.md describes them.`,
    );
  }
  if (mode === 'standalone' && !settings.API_KEYS) throw new Refusal('API_KEYS is needed: say add-key NAME.');
  // The proxy is on this machine, so loopback alone would keep nobody out.
  if (mode === 'cloud-tasks' && settings.TASK_AUTH !== 'verify') {
    throw new Refusal('TASK_AUTH must be verify: nothing else checks who calls a machine of your own.');
  }
  if (settings.STORE !== 'gcs' && mode === 'cloud-tasks') {
    throw new Refusal('STORE must be gcs: the API and cpu-service do not see the disk of this machine.');
  }
}
