import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  chmodSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  realpathSync,
  rmSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { waitFor } from '../tests/support/wait-for.ts';

// The real set-up in a folder of its own, with an npm and a Python that only pretend (tests/support/fake-installers.mjs).

const REPOSITORY = join(import.meta.dirname, '..');
let root: string;
let bin: string;
let running: ChildProcessWithoutNullStreams[];

beforeEach(() => {
  root = realpathSync(mkdtempSync(join(tmpdir(), 'zeroscribe-set-up-')));
  bin = join(root, 'bin');
  running = [];
  mkdirSync(bin);
  cpSync(join(REPOSITORY, 'setup'), join(root, 'setup'), { recursive: true });
  writeFileSync(join(root, 'setup', 'requirements', 'cpu.txt'), 'one==1\ntwo==2\n');
  // Makes modules of the fake tools too, whose names have no extension.
  writeFileSync(join(root, 'package.json'), '{ "type": "module" }');
  lockNpm('1.0.0');
  writeFileSync(
    join(root, 'echo.ts'),
    "const args: string[] = process.argv.slice(2); process.stdin.on('data', (text) => console.log(args, String(text))); process.stdin.on('end', () => process.exit(7));",
  );
  for (const name of ['npm', 'python3']) addTool(name);
});

afterEach(async () => {
  for (const child of running.filter(
    ({ exitCode, signalCode }) => exitCode === null && signalCode === null,
  )) {
    child.kill('SIGKILL');
    await once(child, 'close');
  }
  rmSync(root, { recursive: true });
});

function lockNpm(version: string): void {
  const packages = {
    '': {},
    'node_modules/thing': { version },
    'node_modules/for-macs': { version, optional: true },
  };
  writeFileSync(join(root, 'package-lock.json'), JSON.stringify({ packages }));
}

function addTool(name: string): void {
  const script = readFileSync(join(REPOSITORY, 'tests', 'support', 'fake-installers.mjs'), 'utf8');
  writeFileSync(join(bin, name), `#!${process.execPath}\n${script}`);
  chmodSync(join(bin, name), 0o755);
}

interface Result {
  code: number | null;
  stdout: string;
  stderr: string;
}

function start(args: string[] = [], fake: object = {}, env: NodeJS.ProcessEnv = {}): Promise<Result> {
  return startScript('run.mjs', args, fake, env);
}

function startScript(
  script: string,
  args: string[],
  fake: object = {},
  env: NodeJS.ProcessEnv = {},
): Promise<Result> {
  const child = spawn(process.execPath, [join(root, 'setup', script), ...args], {
    cwd: root,
    env: { PATH: bin, HOME: root, FAKE: JSON.stringify(fake), ...env },
  });
  running.push(child);
  let [stdout, stderr] = ['', ''];
  child.stdout.on('data', (text) => {
    stdout += text;
  });
  child.stderr.on('data', (text) => {
    stderr += text;
  });
  child.stdin.on('error', () => {}).end('from stdin');
  return once(child, 'close').then(([code]) => ({ code, stdout, stderr }));
}

function calls(): string[] {
  const path = join(root, 'calls.log');
  return existsSync(path) ? readFileSync(path, 'utf8').trim().split('\n') : [];
}

function forgetCalls(): void {
  rmSync(join(root, 'calls.log'), { force: true });
}

function installation(): Record<string, unknown> | undefined {
  const path = join(root, '.venv', 'zeroscribe.json');
  return existsSync(path) ? JSON.parse(readFileSync(path, 'utf8')) : undefined;
}

const hanging = (): Promise<number> =>
  waitFor('pip to hang', () => {
    const path = join(root, 'hanging');
    return existsSync(path) ? Number(readFileSync(path, 'utf8')) || undefined : undefined;
  });

/** One sentence or a few, no stack, nothing left that would count as set up. */
function expectFailure({ code, stderr, stdout }: Result, sentence: RegExp): void {
  expect(stderr).toMatch(sentence);
  expect(stderr).not.toMatch(/^\s+at /m);
  expect(code).toBe(1);
  expect(stdout).toBe('');
  expect(installation()).toBeUndefined();
  expect(existsSync(join(root, '.setup.lock'))).toBe(false);
}

describe('in a fresh folder', () => {
  test('everything is installed, then the script gets arguments, stdin and stdout, and gives its exit code', async () => {
    const { code, stdout, stderr } = await start(['echo.ts', 'a', '--b'], { npm: 'noisy' });
    expect(stdout).toBe("[ 'a', '--b' ] from stdin\n");
    expect(code).toBe(7);
    expect(stderr).toMatch(/npm packages: done[\s\S]*Zeroscribe is set up/);
    expect(stderr).not.toMatch(/EBADENGINE/);
    expect(installation()).toMatchObject({
      python: join(root, '.venv', 'bin', 'python'),
      device: 'cpu',
      packaged_model: { name: 'tiny.en' },
      models: {},
    });
    expect(existsSync(join(root, 'setup.log'))).toBe(false);
  });

  test('the second time nothing is asked and nothing is said', async () => {
    await start();
    forgetCalls();
    expect(await start()).toEqual({ code: 0, stdout: '', stderr: '' });
    expect(calls()).toEqual([]);
  });

  test.each([
    [['deploy', 'plan'], false],
    [['jobs'], false],
    [['deploy', 'smoke'], true],
    [['transcribe'], true],
  ])('zeroscribe %j is given Python only if it works with recordings: %j', async (args, isGivenPython) => {
    mkdirSync(join(root, 'cli'));
    writeFileSync(join(root, 'cli', 'main.ts'), 'console.log(process.argv.slice(2).join());');
    const { code, stdout } = await startScript('zeroscribe.mjs', args, {}, { CI: 'true' });
    expect([code, stdout]).toEqual([0, `${args.join()}\n`]);
    expect(installation() !== undefined).toBe(isGivenPython);
    expect(calls().some((call) => call.startsWith('npm'))).toBe(true);
    // What was left out is made up for.
    expect((await start(['echo.ts'])).code).toBe(7);
    expect(installation()).toBeDefined();
  });

  test('a script that a signal ends makes the command end by that signal', async () => {
    writeFileSync(join(root, 'wait.ts'), "console.log('ready'); setInterval(() => {}, 1000);");
    await start();
    const child = spawn(process.execPath, [join(root, 'setup', 'run.mjs'), 'wait.ts'], {
      cwd: root,
      env: { PATH: bin },
    });
    running.push(child);
    await once(child.stdout, 'data');
    child.kill('SIGTERM');
    expect(await once(child, 'close')).toEqual([null, 'SIGTERM']);
  });
});

describe('what changed is brought up to date, and only that', () => {
  test('npm packages, when the lock file names others', async () => {
    await start();
    forgetCalls();
    lockNpm('1.0.1');
    expect((await start()).code).toBe(0);
    expect(calls()).toHaveLength(1);
    expect(calls()[0]).toMatch(/^npm ci/);
  });

  test('Python packages, when their lock file does; the environment stays', async () => {
    await start();
    forgetCalls();
    writeFileSync(join(root, 'setup', 'requirements', 'cpu.txt'), 'one==2\n');
    expect((await start()).code).toBe(0);
    expect(calls().filter((call) => /^npm|-m venv/.test(call))).toEqual([]);
    expect(calls().filter((call) => /-m pip/.test(call))).toHaveLength(2);
  });

  test('all of Python, when the environment is gone or its Python is', async () => {
    await start();
    unlinkSync(join(root, '.venv', 'bin', 'python'));
    forgetCalls();
    expect((await start()).code).toBe(0);
    expect(calls().some((call) => call.includes('-m venv --clear'))).toBe(true);
  });
});

describe('one clear sentence', () => {
  test('on a Mac with an Intel processor, for what needs Python', async () => {
    const mac = join(root, 'mac.mjs');
    writeFileSync(
      mac,
      "Object.defineProperties(process, { platform: { value: 'darwin' }, arch: { value: 'x64' } });",
    );
    const env = { CI: 'true', NODE_OPTIONS: `--import=${mac}` };
    mkdirSync(join(root, 'cli'));
    writeFileSync(join(root, 'cli', 'main.ts'), '');
    expectFailure(
      await startScript('zeroscribe.mjs', ['transcribe'], {}, env),
      /Macs with an Intel processor/,
    );
    expect((await startScript('zeroscribe.mjs', ['jobs'], {}, env)).code).toBe(0);
  });

  test('when there is no Python', async () => {
    unlinkSync(join(bin, 'python3'));
    expectFailure(await start(), /Python was not found\. Install Python 3\.10 to 3\.13/);
  });

  test.each([
    [3, 9, 18],
    [3, 14, 0],
    [2, 7, 18],
  ])('when the only Python is %i.%i.%i', async (...version) => {
    expectFailure(await start([], { version }), new RegExp(`found only ${version.join('.')} .*python3\\)`));
  });

  test('when Python cannot make environments', async () => {
    expectFailure(await start([], { venv: 'absent' }), /apt install python3\.11-venv/);
  });

  test('when PYTHON is not there', async () => {
    expectFailure(
      await start([], {}, { PYTHON: '/nowhere/python' }),
      /PYTHON is \/nowhere\/python, which cannot be run/,
    );
  });

  test('when there is no npm', async () => {
    unlinkSync(join(bin, 'npm'));
    expectFailure(await start(), /npm was not found: it comes with Node\.js/);
  });

  test.each(['npm', 'pip'])('when %s reaches no network, and where the rest is', async (tool) => {
    const result = await start([], { [tool]: 'network' });
    expectFailure(result, /The network cannot be reached .*\n.*setup\.log/);
    expect(readFileSync(join(root, 'setup.log'), 'utf8')).toMatch(/ENOTFOUND|name resolution/);
  });

  test.each(['npm', 'pip', 'venv'])('when the disk is full in %s', async (tool) => {
    expectFailure(await start([], { [tool]: 'full' }), /The disk is full/);
  });

  test('when an option is not known', async () => {
    expect(await start(['--modles', 'small'])).toMatchObject({
      code: 1,
      stderr: expect.stringMatching(/--models NAME/),
    });
    expect(await start(['--models', 'huge'])).toMatchObject({
      code: 1,
      stderr: expect.stringMatching(/There is no huge/),
    });
  });
});

describe('PyTorch', () => {
  test('comes from its own index where the configured sources have no CPU build', async () => {
    expect((await start([], { torch: 'elsewhere' })).code).toBe(0);
    expect(calls().filter((call) => call.includes('torch=='))).toHaveLength(2);
  });

  test('is never replaced by a CUDA build: without a CPU build set-up ends', async () => {
    expectFailure(await start([], { torch: 'nowhere' }), /no CPU build of PyTorch .* cannot be reached/);
    expect(calls().filter((call) => / torch==2\.13\.0$/.test(call))).toEqual([]);
  });

  test('that turns out to be a CUDA build is refused', async () => {
    expectFailure(await start([], { torch: 'cuda' }), /gave a CUDA build of PyTorch/);
  });
});

const testWhereCudaIs = process.platform === 'linux' && process.arch === 'x64' ? test : test.skip;

describe('a machine with an NVIDIA driver', () => {
  testWhereCudaIs('gets the CUDA packages, and the same machine without it the CPU ones anew', async () => {
    addTool('nvidia-smi');
    await start([], { torch: 'cuda' });
    expect(installation()).toMatchObject({ device: 'cuda' });
    expect(calls().filter((call) => call.includes('-m pip'))).toEqual([expect.stringMatching(/cuda\.txt$/)]);
    expect(calls().filter((call) => call.includes('fetch_model'))).toEqual([
      expect.stringMatching(/large-v3-turbo/),
    ]);
    unlinkSync(join(bin, 'nvidia-smi'));
    forgetCalls();
    await start();
    expect(installation()).toMatchObject({ device: 'cpu' });
    expect(calls().some((call) => call.includes('-m venv --clear'))).toBe(true);
    expect(calls().some((call) => call.endsWith('cpu.txt'))).toBe(true);
  });

  testWhereCudaIs('downloads nothing of CUDA when ZEROSCRIBE_DEVICE is cpu', async () => {
    addTool('nvidia-smi');
    await start([], {}, { ZEROSCRIBE_DEVICE: 'cpu' });
    expect(installation()).toMatchObject({ device: 'cpu' });
    expect(calls().some((call) => call.includes('cuda.txt') || call.startsWith('nvidia-smi'))).toBe(false);
  });
});

describe('models', () => {
  test('the default one is downloaded where the network allows it, and is then a folder in models', async () => {
    expect((await start([], { hub: 'reachable' })).stderr).toMatch(/model small: done/);
    expect(installation()).toMatchObject({ models: { small: join(root, 'models', 'small') } });
    expect(existsSync(join(root, 'models', 'small', 'model.bin'))).toBe(true);
    expect((await start()).stderr).toBe('');
  });

  test('one that cannot be kept in 8 bits is used as it is, and set-up says so', async () => {
    const { code, stderr } = await start([], { hub: 'reachable', keep: 'fails' });
    expect(code).toBe(0);
    expect(stderr).toContain(
      `${join(root, 'models', 'small')} could not be kept in 8 bits, so each start takes longer: ValueError: the model is of a new kind`,
    );
    expect(installation()).toMatchObject({ models: { small: join(root, 'models', 'small') } });
  });

  test('a download that the network refuses is said once and not tried again by itself', async () => {
    const first = await start();
    expect(first.stderr).toMatch(/small could not be downloaded \(the hub cannot be reached\)\. tiny\.en/);
    forgetCalls();
    expect((await start()).stderr).toBe('');
    expect((await start(['--models', 'small'])).stderr).toMatch(/could not be downloaded/);
  });

  test('tests and CI download none', async () => {
    await start(['echo.ts']);
    await start([], {}, { CI: 'true' });
    expect(calls().filter((call) => call.includes('fetch_model'))).toEqual([]);
  });

  test('no model is downloaded when WHISPER_MODEL names another', async () => {
    await start([], {}, { WHISPER_MODEL: 'tiny.en' });
    expect(calls().filter((call) => call.includes('fetch_model'))).toEqual([]);
  });
});

describe('interrupted', () => {
  test('in the middle of pip by Ctrl-C: it says so, and the next run completes it', async () => {
    const first = start([], { pip: 'hang' });
    await hanging();
    running[0]?.kill('SIGINT');
    const { code, stderr } = await first;
    expect(stderr).toMatch(/Interrupted\. Running the command again/);
    expect(code).toBe(130);
    expect(installation()).toBeUndefined();
    forgetCalls();
    expect((await start()).code).toBe(0);
    expect(calls().some((call) => call.startsWith('npm') || call.includes('-m venv'))).toBe(false);
  });

  test('a package whose installation was cut off is not taken for installed', async () => {
    const half = join(root, '.venv', 'lib', 'python3.11', 'site-packages', 'one-1.dist-info');
    await start();
    rmSync(join(root, '.venv', 'zeroscribe.json'));
    mkdirSync(half);
    writeFileSync(join(half, 'METADATA'), 'Name: one');
    expect((await start()).code).toBe(0);
    expect(existsSync(half)).toBe(false);
  });

  test('packages that pip takes for installed and that do not work are made anew', async () => {
    await start();
    rmSync(join(root, '.venv', 'zeroscribe.json'));
    forgetCalls();
    expect((await start([], { check: 'broken' })).code).toBe(0);
    expect(calls().filter((call) => call.includes('-m venv --clear'))).toHaveLength(1);
  });

  test('killed, while its pip goes on: the next one waits for that pip, then takes over', async () => {
    const first = start([], { pip: 'hang' });
    const pip = await hanging();
    running[0]?.kill('SIGKILL');
    // The orphan holds the pipes that the first run is waited for on.
    first.catch(() => {});
    const second = start();
    const said = once(running[1]?.stderr ?? process.stderr, 'data');
    expect(String(await said)).toMatch(
      new RegExp(`Another set-up is working in this folder \\(process ${pip}\\)`),
    );
    writeFileSync(join(root, 'go-on'), '');
    expect((await second).code).toBe(0);
    await first;
    expect(installation()).toBeDefined();
  });

  test('two at once: the second waits and finds everything done', async () => {
    const first = start([], { pip: 'hang' });
    await hanging();
    const second = start();
    await once(running[1]?.stderr ?? process.stderr, 'data');
    writeFileSync(join(root, 'go-on'), '');
    expect((await first).code).toBe(0);
    const { code, stderr } = await second;
    expect(code).toBe(0);
    expect(stderr).toMatch(
      /^Another set-up is working in this folder \(process \d+\)\. Waiting for it to end\.\n$/,
    );
  });

  test('a lock whose process is dead is taken over without a word', async () => {
    const gone = spawn(process.execPath, ['-e', '']);
    await once(gone, 'close');
    writeFileSync(join(root, '.setup.lock'), JSON.stringify([[gone.pid, '123']]));
    const { code, stderr } = await start();
    expect(code).toBe(0);
    expect(stderr).not.toMatch(/Another set-up/);
  });

  test('a lock whose process number now belongs to another is taken over too', async () => {
    writeFileSync(join(root, '.setup.lock'), JSON.stringify([[process.pid, '1']]));
    expect((await start()).code).toBe(0);
  });
});
