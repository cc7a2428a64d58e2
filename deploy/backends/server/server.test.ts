import { type ChildProcess, execFileSync, spawn, spawnSync } from 'node:child_process';
import { generateKeyPairSync } from 'node:crypto';
import { once } from 'node:events';
import { mkdirSync } from 'node:fs';
import { mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { REPOSITORY_ROOT } from '../../../core/installation.ts';
import { fakeSidecarCommand } from '../../../tests/support/fake-sidecar.ts';
import { childrenOf, isRunning } from '../../../tests/support/processes.ts';
import { waitFor } from '../../../tests/support/wait-for.ts';
import { parseEnvironment } from '../../environment.ts';
import staging from '../../environments/staging.ts';
import { layOut } from '../../layout.ts';
import { formatEnvironmentFile, parseEnvironmentFile } from './environment-file.ts';
import { giveKey, type InstallOptions, install, uninstall } from './install.ts';
import { Machine } from './machine.ts';
import { Refusal } from './refusal.ts';
import { serverVariables } from './server-variables.ts';
import { OLDEST_SYSTEMD, type ServerMode, systemdUnit } from './unit.ts';

// The installer writes a picture of a machine into a folder: files for real, commands only said. What it wrote is then
// used as systemd would: the environment by a parser that is not ours, and the command of the unit as a process.

const PROGRAM = { folder: REPOSITORY_ROOT, node: process.execPath };
const ENVIRONMENT_FILE = 'etc/zeroscribe/zeroscribe.env';
const UNIT_FILE = 'etc/systemd/system/zeroscribe.service';
const isThere = (tool: string, ...args: string[]) => spawnSync(tool, args, { timeout: 20_000 }).status === 0;

/** A test that needs a tool which may be absent: skipped, and the reason is part of its name. */
function withTool(tool: string, ...args: string[]) {
  if (isThere(tool, ...args)) return (name: string, run: () => Promise<void>) => test(name, run, 60_000);
  console.info(`skipped, because there is no ${tool} here`);
  return (name: string, run: () => Promise<void>) => test.skip(`${name} (there is no ${tool} here)`, run);
}

let root: string;
let said: string[];
let running: ChildProcess | undefined;
beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), 'zeroscribe-server-'));
  said = [];
});
afterEach(async () => {
  if (running?.exitCode === null && running.signalCode === null) {
    running.kill('SIGKILL');
    await once(running, 'exit');
  }
  running = undefined;
  await rm(root, { recursive: true });
});

const say = (line: string) => said.push(line);
const machine = (isDryRun = false) => new Machine({ root, isDryRun, say });
const read = (path: string) => readFile(join(root, path), 'utf8');
const modeOf = async (path: string) => ((await stat(join(root, path))).mode & 0o777).toString(8);
const files = async () => (await readdir(root, { recursive: true })).sort();

/** What tests need besides: a port that is free, and no model. */
const FOR_TESTS = { PORT: '0', SIDECAR_COMMAND: JSON.stringify(fakeSidecarCommand('good')) };
const standalone = (): InstallOptions => ({
  mode: 'standalone',
  domain: 'transcribe.example.com',
  device: 'cpu',
  settings: formatEnvironmentFile({ ...FOR_TESTS, DATA_DIR: join(root, 'var/lib/zeroscribe') }),
});

const URL_OF_SERVER = 'https://gpu.example.com';
/** As `npm run deploy -- server-settings` prints them, and without a bucket that could be reached. */
function cloudVariables() {
  const backend = { kind: 'server', name: 'own-gpu', url: URL_OF_SERVER } as const;
  const environment = parseEnvironment('staging', { ...staging, backends: [...staging.backends, backend] });
  const layout = layOut(environment, { id: 'my-project', number: '123' }, { api: 'none', gpu: 'none' });
  const [server] = environment.backends.filter((one) => one.kind === 'server');
  if (server === undefined) throw new Error('there is no server');
  return serverVariables(layout, server);
}
function cloudTasks(): InstallOptions {
  const { privateKey } = generateKeyPairSync('rsa', {
    modulusLength: 2_048,
    privateKeyEncoding: { type: 'pkcs8', format: 'pem' },
    publicKeyEncoding: { type: 'spki', format: 'pem' },
  });
  const account = {
    type: 'service_account',
    project_id: 'my-project',
    private_key_id: 'a',
    private_key: privateKey,
    client_email: 'gpu@my-project.iam.gserviceaccount.com',
    client_id: '1',
    token_uri: 'http://127.0.0.1:9/token',
  };
  return {
    mode: 'cloud-tasks',
    device: 'cpu',
    settings: formatEnvironmentFile({
      ...cloudVariables(),
      ...FOR_TESTS,
      STORAGE_API_ENDPOINT: 'http://127.0.0.1:9',
    }),
    credentials: JSON.stringify(account),
  };
}

/** The last word of the line that tells it. */
const toldKey = () =>
  said
    .find((line) => line.startsWith('The key of'))
    ?.split(' ')
    .at(-1) ?? '';

interface Started {
  url: string;
  env: NodeJS.ProcessEnv;
  /** SIGTERM to the main process alone (KillMode=mixed). */
  stop(): Promise<number | null>;
}

/** As systemd starts it: the unit's environment and file, the unit's folder and command, and nothing of ours. */
async function startUnit(): Promise<Started> {
  const unit = await read(UNIT_FILE);
  const all = (key: string) =>
    [...unit.matchAll(new RegExp(`^${key}=(.*)$`, 'gm'))].map(([, value = '']) => value);
  const here = (value: string) =>
    value.replaceAll('/var/', `${root}/var/`).replaceAll('%d', join(root, 'etc/zeroscribe'));
  const fromUnit = all('Environment').flatMap((line) => here(line).split(' '));
  for (const folder of ['var/lib/zeroscribe', 'var/cache/zeroscribe', 'var/tmp']) {
    mkdirSync(join(root, folder), { recursive: true, mode: 0o700 });
  }
  const env = readByShell(join(root, ENVIRONMENT_FILE), fromUnit);
  const [command = '', ...args] = all('ExecStart')[0]?.split(' ') ?? [];
  const child = spawn(command, args, {
    cwd: all('WorkingDirectory')[0],
    env,
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  running = child;
  let stderr = '';
  child.stderr.on('data', (piece: Buffer) => {
    stderr += piece.toString();
  });
  const url = await new Promise<string>((resolve, reject) => {
    createInterface({ input: child.stdout }).on('line', (line) => {
      const { message, url: found } = JSON.parse(line) as { message?: string; url?: string };
      if (message === 'listening' && found !== undefined) resolve(found);
    });
    child.once('exit', (code) => reject(new Error(`it ended with ${code}: ${stderr}`)));
  });
  return {
    url,
    env,
    async stop() {
      child.kill('SIGTERM');
      return (await once(child, 'exit'))[0] as number | null;
    },
  };
}

/** A POSIX shell understands the file as systemd does. */
function readByShell(file: string, assignments: string[]): NodeJS.ProcessEnv {
  const output = execFileSync(
    'env',
    ['-i', 'PATH=/usr/bin:/bin', ...assignments, 'sh', '-c', 'set -a; . "$0"; env -0', file],
    { encoding: 'utf8' },
  );
  const entries = output.split('\0').filter((entry) => entry !== '');
  return Object.fromEntries(
    entries.map((entry) => [entry.split('=', 1)[0], entry.slice(entry.indexOf('=') + 1)]),
  );
}

describe('the installer', () => {
  test('keeps secrets in files that only root reads, and of a key only its hash', async () => {
    await install(machine(), PROGRAM, standalone(), say);
    expect(await modeOf(ENVIRONMENT_FILE)).toBe('600');
    expect(await modeOf(UNIT_FILE)).toBe('644');
    const settings = await read(ENVIRONMENT_FILE);
    expect(toldKey()).toHaveLength(43);
    expect(settings).not.toContain(toldKey());
    expect(settings).toMatch(/^API_KEYS=default:sha256:[0-9a-f]{64}$/m);
    // Nor on a command line, which everybody on the machine reads.
    const { URL_SIGNING_KEY } = parseEnvironmentFile(settings);
    expect(said.filter((line) => line.startsWith('run')).join()).not.toContain(URL_SIGNING_KEY);
    expect(await read(UNIT_FILE)).not.toContain(URL_SIGNING_KEY);
  });

  test('tells the key as soon as its hash is written, so that no failure after it loses it', async () => {
    await install(machine(), PROGRAM, standalone(), say);
    const at = said.findIndex((line) => line.includes('which is shown this once'));
    expect(said[at - 1]).toContain(ENVIRONMENT_FILE);
  });

  test('changes nothing the second time, and keeps what an operator has set', async () => {
    await install(machine(), PROGRAM, standalone(), say);
    await writeFile(join(root, ENVIRONMENT_FILE), `${await read(ENVIRONMENT_FILE)}MAX_UPLOAD_BYTES=1000\n`);
    const [settings, unit] = [await read(ENVIRONMENT_FILE), await read(UNIT_FILE)];
    said = [];
    const again = machine();
    await install(again, PROGRAM, {}, say);
    expect(again.changes).toBe(0);
    expect(await read(ENVIRONMENT_FILE)).toBe(settings);
    expect(await read(UNIT_FILE)).toBe(unit);
    // The key was told once.
    expect(toldKey()).toBe('');
    // New code may lie there, so the service starts anew.
    expect(said).toContain('run systemctl restart zeroscribe.service');

    await install(machine(), PROGRAM, { port: '9000', memoryMax: '24G' }, say);
    const changed = parseEnvironmentFile(await read(ENVIRONMENT_FILE));
    expect(changed).toEqual({ ...parseEnvironmentFile(settings), PORT: '9000' });
    await install(machine(), PROGRAM, {}, say);
    expect(await read(UNIT_FILE)).toContain('MemoryMax=24G');
  });

  test('in a dry run says what it would do and writes nothing', async () => {
    await install(machine(true), PROGRAM, standalone(), say);
    expect(await files()).toEqual([]);
    expect(said).toContain('would write /etc/zeroscribe/zeroscribe.env (mode 0600)');
    expect(said).toContain('would run systemctl enable zeroscribe.service');
    expect(toldKey()).toBe('');
  });

  test('refuses what the services would refuse, before it writes anything', async () => {
    const refusal = (options: InstallOptions) =>
      install(machine(), PROGRAM, options, say).then(
        () => 'nothing',
        (error: Error) => `${error.name}: ${error.message}`,
      );
    expect(await refusal({})).toBe('Refusal: Say --mode standalone or --mode cloud-tasks.');
    expect(await refusal({ mode: 'standalone' })).toContain('Say --domain NAME');
    expect(await refusal({ ...standalone(), port: 'high' })).toContain('PORT: must be a whole number');
    expect(await refusal({ ...standalone(), settings: 'API_KEYS=a b c' })).toBe(
      'Refusal: --settings: Line 1 is not NAME=value: quote values with spaces or quotes.',
    );
    expect(await refusal({ mode: 'cloud-tasks', domain: 'gpu.example.com' })).toContain(
      'CLOUD_TASKS_QUEUES: is needed',
    );
    const open = formatEnvironmentFile({ ...cloudVariables(), TASK_AUTH: 'none' });
    expect(await refusal({ ...cloudTasks(), settings: open })).toContain('TASK_AUTH must be verify');
    expect(await refusal({ ...cloudTasks(), credentials: '{"type":"authorized_user"}' })).toContain(
      'must be the key file of a service account',
    );
    expect(await files()).toEqual([]);
  });

  test('does not turn one kind of service into the other by itself', async () => {
    await install(machine(), PROGRAM, standalone(), say);
    await expect(install(machine(), PROGRAM, cloudTasks(), say)).rejects.toThrow(Refusal);
  });

  test('takes the service away and leaves recordings and settings, unless it is told otherwise', async () => {
    await install(machine(), PROGRAM, { ...standalone(), device: 'cuda' }, say);
    expect(await read('etc/modules-load.d/zeroscribe.conf')).toContain('nvidia-uvm');
    mkdirSync(join(root, 'var/lib/zeroscribe'), { recursive: true });
    await writeFile(join(root, 'var/lib/zeroscribe/recording'), 'sound');
    uninstall(machine(), { isPurge: false }, say);
    expect(said).toContain('run systemctl disable --now zeroscribe.service');
    const left = await files();
    expect(left).toEqual(expect.arrayContaining(['var/lib/zeroscribe/recording', ENVIRONMENT_FILE]));
    expect(left.filter((path) => /systemd.*service|modules-load.*conf/.test(path))).toEqual([]);
    uninstall(machine(), { isPurge: true }, say);
    expect((await files()).filter((path) => path.endsWith('zeroscribe'))).toEqual([]);
  });

  test('is one command, which needs no root to show what it would do', async () => {
    const output = execFileSync(
      join(REPOSITORY_ROOT, 'deploy/backends/server/install.sh'),
      ['--dry-run', '--root', root, '--mode', 'standalone', '--domain', 'a.example.com'],
      { encoding: 'utf8', env: { ...process.env, NODE_OPTIONS: '' } },
    );
    expect(output).toContain('would write /etc/systemd/system/zeroscribe.service (mode 0644)');
    expect(await files()).toEqual([]);
  }, 60_000);
});

describe('the file of variables', () => {
  const variables = {
    PLAIN: 'https://a.example.com:8080/x?y=1',
    JSON: '[{"name":"a","cost":"$5","path":"C:\\\\x"}]',
    EMPTY: '',
    WORDS: "it's `so`  said",
  };

  test('says the same to a shell, which reads it as systemd does, and to us', async () => {
    const text = formatEnvironmentFile(variables, { JSON: 'a comment' });
    expect(parseEnvironmentFile(text)).toEqual(variables);
    await writeFile(join(root, 'env'), text);
    expect(readByShell(join(root, 'env'), [])).toMatchObject(variables);
  });

  test('that an operator has written by hand is understood', () => {
    const text = '# comment\n; another\n\nexport A=1\n B=\'two words\'\nC="three \\"words\\""\n';
    expect(parseEnvironmentFile(text)).toEqual({ A: '1', B: 'two words', C: 'three "words"' });
  });

  test('is refused by the number of a line, whose text may be a secret', () => {
    expect(() => parseEnvironmentFile('A=1\nAPI_KEYS=my secret')).toThrow(/^Line 2 is not NAME=value/);
    expect(() => formatEnvironmentFile({ A: 'a\nb' })).toThrow('line break');
  });
});

describe('what was installed', () => {
  test('runs as a whole service behind a proxy: no answer without a key, a transcript with it', async () => {
    await install(machine(), PROGRAM, standalone(), say);
    const { url, env, stop } = await startUnit();
    expect(env).toMatchObject(parseEnvironmentFile(await read(ENVIRONMENT_FILE)));
    expect((await fetch(`${url}/v1/transcriptions`)).status).toBe(401);
    const authorization = `Bearer ${toldKey()}`;
    const list = await fetch(`${url}/v1/transcriptions`, { headers: { authorization } });
    expect(list.status).toBe(200);
    expect(await readdir(join(root, 'var/lib/zeroscribe'))).toContain('zeroscribe.sqlite');
    expect(await stop()).toBe(0);

    // A second key, for instance to replace the first: both are good.
    const first = toldKey();
    said = [];
    giveKey(machine(), 'laptop', say);
    const again = await startUnit();
    for (const key of [first, toldKey()]) {
      const answer = await fetch(`${again.url}/v1/transcriptions`, {
        headers: { authorization: `Bearer ${key}` },
      });
      expect(answer.status).toBe(200);
    }
    expect(await again.stop()).toBe(0);
  }, 60_000);

  test('runs as a target of Cloud Tasks: no task without a token, and the sidecar ends with it', async () => {
    await install(machine(), PROGRAM, cloudTasks(), say);
    expect(await modeOf('etc/zeroscribe/google-credentials.json')).toBe('600');
    const { url, stop } = await startUnit();
    const post = (headers: Record<string, string>) =>
      fetch(`${url}/tasks`, { method: 'POST', headers, body: '{"type":"transcribe"}' });
    expect((await post({})).status).toBe(401);
    expect((await post({ authorization: 'Bearer forged.forged.forged' })).status).toBe(401);
    expect((await fetch(`${url}/health/live`)).status).toBe(200);
    await waitFor('readiness', async () => (await fetch(`${url}/health/ready`)).status === 200);
    const sidecars = childrenOf(running?.pid ?? 0);
    expect(sidecars).toHaveLength(1);
    expect(await stop()).toBe(0);
    expect(sidecars.filter(isRunning)).toEqual([]);
  }, 60_000);

  test('asks for a file of credentials only where one was given', async () => {
    const { credentials: _none, ...withoutFile } = cloudTasks();
    await install(machine(), PROGRAM, withoutFile, say);
    expect(await read(UNIT_FILE)).not.toContain('LoadCredential');
    await install(machine(), PROGRAM, cloudTasks(), say);
    expect(await read(UNIT_FILE)).toContain(
      'LoadCredential=google-credentials.json:/etc/zeroscribe/google-credentials.json\nEnvironment=GOOGLE_APPLICATION_CREDENTIALS=%d/google-credentials.json\n',
    );
  });
});

describe('the unit', () => {
  const options = { ...PROGRAM, hasCredentials: true, systemdVersion: OLDEST_SYSTEMD };
  const modes: ServerMode[] = ['standalone', 'cloud-tasks'];

  test('leaves the service longer to stop than it takes, and ends what is left in any process group', () => {
    const unit = systemdUnit({ ...options, mode: 'standalone', device: 'cuda' });
    // One machine ends within 8.5 s, gpu-service within 8 s: docs/operations.md.
    expect(Number(/^TimeoutStopSec=(\d+)$/m.exec(unit)?.[1])).toBeGreaterThan(9);
    expect(unit).toContain('\nKillMode=mixed\n');
    expect(unit).toContain('\nRestart=always\n');
  });

  test('waits longer from restart to restart where systemd knows how', () => {
    const unit = (systemdVersion: number) =>
      systemdUnit({ ...options, mode: 'standalone', device: 'cpu', systemdVersion });
    expect(unit(254)).toContain('RestartMaxDelaySec=');
    expect(unit(252)).not.toContain('RestartMaxDelaySec=');
  });

  test('of a machine without a GPU sees no device at all, of one with a GPU only that', () => {
    expect(systemdUnit({ ...options, mode: 'standalone', device: 'cpu' })).toContain('PrivateDevices=yes');
    const unit = systemdUnit({ ...options, mode: 'standalone', device: 'cuda' });
    expect(unit).not.toContain('PrivateDevices');
    expect(unit).toContain('DevicePolicy=closed\nDeviceAllow=char-nvidia*');
  });

  withTool('systemd-analyze', '--version')('is understood by systemd, and exposes little', async () => {
    for (const mode of modes) {
      for (const device of ['cpu', 'cuda'] as const) {
        const file = join(root, 'zeroscribe.service');
        await writeFile(file, systemdUnit({ ...options, mode, device, memoryMax: '24G' }));
        const verify = spawnSync('systemd-analyze', ['verify', '--recursive-errors=no', file], {
          encoding: 'utf8',
        });
        // The driver's helper comes with the driver, which is not here.
        const complaints = verify.stderr
          .split('\n')
          .filter((line) => line !== '' && !line.includes('nvidia-modprobe'));
        expect(complaints).toEqual([]);
        // In tenths: 10.0 is a service without any of it, 2.0 still counts as "OK".
        const security = spawnSync(
          'systemd-analyze',
          ['security', '--offline=yes', '--threshold=20', '--no-pager', file],
          { encoding: 'utf8' },
        );
        expect(security.stdout.trimEnd().split('\n').at(-1)).toContain('exposure level');
        expect(security.status).toBe(0);
      }
    }
  });

  withTool('caddy', 'version')('has a proxy in front whose configuration Caddy understands', async () => {
    for (const options of [standalone(), cloudTasks()]) {
      await rm(join(root, 'etc'), { recursive: true, force: true });
      await install(machine(), PROGRAM, options, say);
      const file = join(root, 'etc/zeroscribe/zeroscribe.caddy');
      const adapted = spawnSync('caddy', ['adapt', '--config', file, '--adapter', 'caddyfile'], {
        encoding: 'utf8',
      });
      expect(adapted.status).toBe(0);
      const hosts = /"host":\["([^"]+)"\]/.exec(adapted.stdout)?.[1];
      expect(hosts).toBe(options.mode === 'standalone' ? 'transcribe.example.com' : 'gpu.example.com');
    }
  });

  withTool('shellcheck', '--version')('has an installer without the usual mistakes of shell', async () => {
    const check = spawnSync('shellcheck', [join(import.meta.dirname, 'install.sh')], { encoding: 'utf8' });
    expect(check.stdout).toBe('');
  });
});
