import { execFile } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync } from 'node:fs';
import { builtinModules } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { REPOSITORY_ROOT } from '../../core/installation.ts';
import { nodeTool } from '../tools.ts';

// What tsc makes of the services for the images, with Node alone.

const { dependencies } = JSON.parse(readFileSync(join(REPOSITORY_ROOT, 'package.json'), 'utf8')) as {
  dependencies: Record<string, string>;
};
let folder: string;

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'compiled-'));
  const [tsc = '', ...args] = nodeTool('typescript/bin/tsc', '-p', 'tsconfig.build.json', '--outDir', folder);
  await promisify(execFile)(tsc, args, { cwd: REPOSITORY_ROOT });
  symlinkSync(join(REPOSITORY_ROOT, 'node_modules'), join(folder, 'node_modules'));
}, 120_000);
afterAll(() => rmSync(folder, { recursive: true }));

const files = () =>
  readdirSync(folder, { recursive: true, encoding: 'utf8' }).filter(
    (name) => /\.(js|json)$/.test(name) && !name.startsWith('node_modules'),
  );

/** Ends by itself, for there is no configuration. */
async function start(main: string): Promise<{ code: number; stderr: string; stdout: string }> {
  try {
    const { stdout, stderr } = await promisify(execFile)(process.execPath, [join(folder, main)], {
      env: { PATH: process.env.PATH, NODE_OPTIONS: '--disable-warning=ExperimentalWarning' },
      timeout: 25_000,
    });
    return { code: 0, stdout, stderr };
  } catch (error) {
    return error as { code: number; stderr: string; stdout: string };
  }
}

test('no tests and nothing of the setup are compiled', () => {
  expect(files()).toContain('gpu-service/main.js');
  expect(files().filter((name) => /\.(test|contract)\.js$|^(tests|setup)\//.test(name))).toEqual([]);
});

test('it imports what package.json names as a dependency, Node’s own modules, and files that are there', () => {
  const compiled = new Set(files());
  const missing: string[] = [];
  for (const name of compiled) {
    const text = readFileSync(join(folder, name), 'utf8');
    const imports = text.matchAll(/(?:^(?:import|export)\b[^;]*?\bfrom |^import |\bimport\()'([^']+)'/gm);
    for (const [, specifier = ''] of imports) {
      const [scope = '', rest] = specifier.split('/');
      const isThere = specifier.startsWith('.')
        ? compiled.has(join(name, '..', specifier))
        : specifier.startsWith('node:')
          ? builtinModules.includes(specifier.slice(5)) || specifier === 'node:sqlite'
          : Object.hasOwn(dependencies, scope.startsWith('@') ? `${scope}/${rest}` : scope);
      if (!isThere) missing.push(`${name}: ${specifier}`);
    }
  }
  expect(missing).toEqual([]);
});

test.each(['api/main.js', 'cpu-service/main.js'])(
  '%s starts, and says what it needs to be told',
  async (main) => {
    const { code, stderr } = await start(main);
    expect(stderr).toMatch(/^The environment is not valid:\n {2}CLOUD_TASKS_QUEUES: is needed/);
    expect(code).toBe(1);
  },
);

test.each(['gpu-service/main.js', 'standalone/main.js'])(
  '%s starts as well, and without a transcriber says so',
  async (main) => {
    const { code, stdout } = await start(main);
    expect(stdout).toContain('Zeroscribe is not set up here');
    expect(code).toBe(1);
  },
);
