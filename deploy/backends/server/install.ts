import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { readInstallation } from '../../../core/installation.ts';
import { caddyfile } from './caddyfile.ts';
import { checkGpu, checkSystem } from './check-machine.ts';
import { formatEnvironmentFile, parseEnvironmentFile } from './environment-file.ts';
import type { Machine } from './machine.ts';
import { Refusal } from './refusal.ts';
import {
  addKey,
  addressOf,
  COMMENTS,
  checkSettings,
  completeSettings,
  modeOf,
  type Settings,
} from './settings.ts';
import {
  CONFIG_FOLDER,
  CREDENTIALS_FILE,
  ENVIRONMENT_FILE,
  MODULES,
  MODULES_FILE,
  OLDEST_SYSTEMD,
  readUnit,
  type ServerMode,
  STATE_FOLDER,
  systemdUnit,
  UNIT_NAME,
  USER,
} from './unit.ts';

export interface InstallOptions {
  /** Needed the first time; afterwards it is what it was. */
  mode?: ServerMode | undefined;
  /** The name under which the machine is reached. */
  domain?: string | undefined;
  port?: string | undefined;
  /** Contents of files. */
  settings?: string | undefined;
  credentials?: string | undefined;
  memoryMax?: string | undefined;
  /** The first time a GPU; afterwards what it was. */
  device?: 'cpu' | 'cuda' | undefined;
}

/** Where Zeroscribe itself lies, and what it runs with. */
export interface Program {
  folder: string;
  node: string;
}

const UNIT_FILE = `/etc/systemd/system/${UNIT_NAME}`;
const CADDY_FILE = `${CONFIG_FOLDER}/zeroscribe.caddy`;
const HEALTH_TIMEOUT_MS = 60_000;

/** Brings the machine to what is asked for; run again, it changes what is different. @throws {Refusal} */
export async function install(
  machine: Machine,
  program: Program,
  options: InstallOptions,
  say: (line: string) => void,
): Promise<void> {
  const installed = readSettings(machine);
  const given = options.settings === undefined ? {} : parse(options.settings, '--settings');
  const mode = chooseMode(options.mode, installed, given);
  const { settings, newKey } = completeSettings(mode, installed ?? {}, given, options);
  if (settings[addressOf(mode)] === undefined) {
    throw new Refusal('Say --domain NAME, the name under which this machine is reached from outside.');
  }
  checkSettings(mode, settings);
  const hasCredentials = checkCredentials(machine, options.credentials, mode, settings);

  const { systemdVersion } = machine.isPicture
    ? { systemdVersion: OLDEST_SYSTEMD }
    : checkSystem(machine, program.folder);
  const before = readUnit(machine.read(UNIT_FILE));
  const device = options.device ?? before.device ?? 'cuda';
  if (device === 'cuda' && !machine.isPicture) say(`GPU: ${checkGpu(machine)}`);

  if (machine.ask('getent', 'passwd', USER) === undefined) {
    machine.run(
      'useradd',
      '--system',
      '--user-group',
      '--home-dir',
      STATE_FOLDER,
      '--no-create-home',
      '--shell',
      '/usr/sbin/nologin',
      USER,
    );
  }
  machine.folder(CONFIG_FOLDER, 0o755);
  machine.file(ENVIRONMENT_FILE, formatEnvironmentFile(settings, COMMENTS), 0o600);
  // At once, for the file has only its hash: were it said at the end, a failure before would lose it.
  if (newKey !== undefined && !machine.isDryRun) sayKey(newKey.name, newKey.key, say);
  if (options.credentials !== undefined) machine.file(CREDENTIALS_FILE, options.credentials, 0o600);
  const host = new URL(settings[addressOf(mode)] ?? '').host;
  machine.file(CADDY_FILE, caddyfile({ host, port: settings.PORT ?? '', mode }), 0o644);
  if (device === 'cuda') machine.file(MODULES_FILE, MODULES, 0o644);
  const memoryMax = options.memoryMax ?? before.memoryMax;
  const unit = systemdUnit({ ...program, mode, device, hasCredentials, memoryMax, systemdVersion });
  machine.file(UNIT_FILE, unit, 0o644);

  // Models are fetched now, since running fetches nothing; so is byte code, which the service may not write.
  machine.run('env', `ZEROSCRIBE_DEVICE=${device}`, program.node, join(program.folder, 'setup/run.mjs'));
  machine.run(
    readInstallation().python,
    '-m',
    'compileall',
    '-q',
    join(program.folder, 'gpu-service/sidecar/zeroscribe_sidecar'),
  );
  if (device === 'cuda') machine.run('modprobe', '--all', 'nvidia', 'nvidia-uvm');
  machine.run('systemctl', 'daemon-reload');
  machine.run('systemctl', 'enable', UNIT_NAME);
  machine.run('systemctl', 'restart', UNIT_NAME);
  if (machine.isReal) await waitForHealth(settings.PORT ?? '');
  for (const line of whatIsLeft({ mode, settings, hasCredentials })) say(line);
}

function sayKey(name: string, key: string, say: (line: string) => void): void {
  say(`The key of ${name}, which is shown this once: ${key}`);
}

/** Another key for the API, for instance to replace one. @throws {Refusal} */
export function giveKey(machine: Machine, name: string, say: (line: string) => void): void {
  const settings = readSettings(machine);
  if (settings === undefined || modeOf(settings) !== 'standalone') {
    throw new Refusal('Only an installed service of mode standalone has keys.');
  }
  const { key } = addKey(settings, name);
  checkSettings('standalone', settings);
  machine.file(ENVIRONMENT_FILE, formatEnvironmentFile(settings, COMMENTS), 0o600);
  machine.run('systemctl', 'try-restart', UNIT_NAME);
  if (!machine.isDryRun) sayKey(name, key, say);
}

/** Data and settings stay, unless `isPurge`. */
export function uninstall(
  machine: Machine,
  { isPurge }: { isPurge: boolean },
  say: (line: string) => void,
): void {
  if (machine.read(UNIT_FILE) !== undefined) machine.run('systemctl', 'disable', '--now', UNIT_NAME);
  machine.remove(UNIT_FILE);
  machine.remove(MODULES_FILE);
  machine.run('systemctl', 'daemon-reload');
  machine.remove('/var/cache/zeroscribe');
  if (isPurge) {
    machine.remove(STATE_FOLDER);
    machine.remove(CONFIG_FOLDER);
    if (machine.ask('getent', 'passwd', USER) !== undefined) machine.run('userdel', USER);
  } else {
    say(
      `Kept: ${STATE_FOLDER} (recordings and transcripts) and ${CONFIG_FOLDER} (settings). --purge removes them too.`,
    );
  }
}

function readSettings(machine: Machine): Settings | undefined {
  const text = machine.read(ENVIRONMENT_FILE);
  return text === undefined ? undefined : parse(text, ENVIRONMENT_FILE);
}

function parse(text: string, source: string): Settings {
  try {
    return parseEnvironmentFile(text);
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error;
    throw new Refusal(`${source}: ${error.message}`);
  }
}

function chooseMode(
  asked: ServerMode | undefined,
  installed: Settings | undefined,
  given: Settings,
): ServerMode {
  const before = installed === undefined ? undefined : modeOf(installed);
  if (before !== undefined && asked !== undefined && before !== asked) {
    throw new Refusal(
      `This machine is installed as ${before}. To make it ${asked}, run uninstall first, and move ${ENVIRONMENT_FILE} away.`,
    );
  }
  const mode = before ?? asked ?? (Object.keys(given).length > 0 ? modeOf(given) : undefined);
  if (mode === undefined) throw new Refusal('Say --mode standalone or --mode cloud-tasks.');
  return mode;
}

/** Whether the service gets a file. Where none is given, Google's own machines have their account. */
function checkCredentials(
  machine: Machine,
  text: string | undefined,
  mode: ServerMode,
  settings: Settings,
): boolean {
  if (text === undefined) return machine.read(CREDENTIALS_FILE) !== undefined;
  let type: unknown;
  try {
    type = (JSON.parse(text) as { type?: unknown }).type;
  } catch {
    // As below.
  }
  if (type !== 'service_account' && type !== 'external_account') {
    throw new Refusal(
      '--credentials must be the key file of a service account, or the configuration of workload identity federation (`gcloud iam workload-identity-pools create-cred-config`).',
    );
  }
  if (mode === 'standalone' && !settings.GCS_SOURCES) {
    throw new Refusal(
      'A standalone service needs credentials only for GCS_SOURCES, and there are none in its settings.',
    );
  }
  return true;
}

async function waitForHealth(port: string): Promise<void> {
  const deadline = AbortSignal.timeout(HEALTH_TIMEOUT_MS);
  while (!deadline.aborted) {
    const answer = await fetch(`http://127.0.0.1:${port}/health/live`).catch(() => undefined);
    if (answer?.ok) return;
    await sleep(500);
  }
  throw new Refusal(
    `The service does not answer on port ${port}. \`journalctl -u ${UNIT_NAME} -n 50\` says why; once that is put right: systemctl restart ${UNIT_NAME}`,
  );
}

function whatIsLeft({
  mode,
  settings,
  hasCredentials,
}: {
  mode: ServerMode;
  settings: Settings;
  hasCredentials: boolean;
}): string[] {
  const address = settings[addressOf(mode)];
  return [
    '',
    `TLS: apt install caddy; put \`import ${CADDY_FILE}\` into /etc/caddy/Caddyfile; systemctl reload caddy.`,
    `     The name in ${address} must lead to this machine, and ports 80 and 443 must be open, and no other.`,
    ...(mode === 'cloud-tasks' && !hasCredentials
      ? [
          'Credentials: none were given. That is right on Google’s own machines; elsewhere say --credentials FILE.',
        ]
      : []),
    ...(mode === 'cloud-tasks'
      ? [`Then: curl ${address}/health/ready`]
      : [`Then: curl -H "Authorization: Bearer $KEY" -F file=@recording.mp3 ${address}/v1/transcriptions`]),
    `Log: journalctl -u ${UNIT_NAME} -f -o cat`,
  ];
}
