import { readFileSync, statSync } from 'node:fs';
import { dirname, join, matchesGlob } from 'node:path';
import { describe, expect, test } from '@jest/globals';
import { REPOSITORY_ROOT } from '../../core/installation.ts';

const read = (name: string) => readFileSync(join(REPOSITORY_ROOT, name), 'utf8');

interface Instruction {
  name: string;
  rest: string;
}

function instructionsOf(dockerfile: string): Instruction[] {
  return read(dockerfile)
    .replace(/^\s*#.*\n/gm, '')
    .replace(/\\\n/g, ' ')
    .split('\n')
    .filter((line) => line.trim() !== '')
    .map((line) => {
      const [name = '', ...rest] = line.split(/\s+/);
      return { name, rest: rest.join(' ') };
    });
}

const restsOf = (instructions: Instruction[], wanted: string) =>
  instructions.filter(({ name }) => name === wanted).map(({ rest }) => rest);

/** Of the image itself, after the last FROM. */
const lastStage = (all: Instruction[]) => all.slice(all.findLastIndex(({ name }) => name === 'FROM'));

/**
 * As Docker reads .dockerignore: the last pattern that matches the path or a folder above it decides. Unlike Node, its *
 * matches names that begin with a dot as well.
 */
function isSent(path: string): boolean {
  const patterns = read('.dockerignore')
    .split('\n')
    .filter((line) => line !== '' && !line.startsWith('#'));
  const parts = path.split('/');
  const above = parts.map((_, i) => parts.slice(0, i + 1).join('/'));
  const decisive = patterns.findLast((pattern) =>
    above.some((folder) => pattern === '*' || matchesGlob(folder, pattern.replace(/^!/, ''))),
  );
  return decisive?.startsWith('!') ?? true;
}

/** The script, and every module of ours below it. */
function importsOf(script: string, found = new Set<string>()): string[] {
  found.add(script);
  for (const [, specifier = ''] of read(script).matchAll(/^(?:import .*|} )from '(\.[^']+)'/gm)) {
    const file = join(dirname(script), specifier);
    if (!found.has(file)) importsOf(file, found);
  }
  return [...found];
}

const base = /^BASE_IMAGE=docker\.io\/library\/debian:bookworm-\d+-slim@sha256:[0-9a-f]{64}$/;

describe.each([
  { dockerfile: 'Dockerfile.gpu', command: '["node", "gpu-service/main.js"]' },
  { dockerfile: 'Dockerfile.api', command: '["node", "api/main.js"]' },
])('$dockerfile', ({ dockerfile, command }) => {
  const all = instructionsOf(dockerfile);
  const image = lastStage(all);

  test('runs as a user without rights, under an init, on every address', () => {
    expect(restsOf(image, 'USER')).toEqual(['10001']);
    expect(restsOf(image, 'ENTRYPOINT')).toEqual(['["tini", "--"]']);
    expect(restsOf(image, 'CMD')).toEqual([command]);
    expect(restsOf(image, 'ENV').join(' ')).toMatch(/\bHOST=0\.0\.0\.0\b/);
  });

  test('is built on a pinned base that can be exchanged', () => {
    expect(restsOf(all, 'ARG')[0]).toMatch(base);
    expect(restsOf(all, 'FROM')[0]).toBe(`\${BASE_IMAGE} AS runtime`);
  });

  test('needs no secret, and keeps none', () => {
    const mounts = all.flatMap(({ rest }) => rest.match(/--mount=\S+/g) ?? []);
    expect(mounts.length).toBeGreaterThan(0);
    for (const mount of mounts) expect(mount).toMatch(/^--mount=type=secret,id=\w+$/);
    expect([...restsOf(all, 'ARG'), ...restsOf(all, 'ENV')].join(' ')).not.toMatch(
      /(TOKEN|SECRET|PASSWORD)\w*=/,
    );
  });

  test('copies only what is there and is sent to the build', () => {
    const sources = restsOf(all, 'COPY')
      .filter((rest) => !rest.startsWith('--from'))
      .flatMap((rest) => rest.split(' ').slice(0, -1))
      .map((source) => source.replace(/\$\{DEVICE\}/, 'cuda'));
    expect(sources.length).toBeGreaterThan(10);
    for (const source of sources) {
      const isThere = statSync(join(REPOSITORY_ROOT, source), { throwIfNoEntry: false }) !== undefined;
      expect({ source, isThere, isSent: isSent(source) }).toEqual({ source, isThere: true, isSent: true });
    }
  });

  test('copies with each step whatever its script imports', () => {
    const copied = new Set<string>();
    const steps: string[] = [];
    for (const { name, rest } of all) {
      if (name === 'COPY' && !rest.startsWith('--from')) {
        for (const source of rest.split(' ').slice(0, -1)) copied.add(source);
      }
      const script = /\bnode (deploy\/images\/[\w-]+\.mjs)/.exec(rest)?.[1];
      if (name !== 'RUN' || script === undefined) continue;
      steps.push(script);
      expect(importsOf(script).filter((file) => !copied.has(file))).toEqual([]);
    }
    expect(steps.length).toBeGreaterThan(0);
  });

  test('tests itself in its last step', () => {
    expect(image.findLast(({ name }) => name === 'RUN')?.rest).toBe('node deploy/images/smoke-test.js');
  });
});

test('what changes rarely comes first, so that a change of the code leaves wheels and models as they are', () => {
  const copied = restsOf(lastStage(instructionsOf('Dockerfile.gpu')), 'COPY');
  expect(copied.map((rest) => rest.split(' ').at(-1))).toEqual([
    ...['/app/.venv', '/app/models', '/app/node_modules', '/app'],
  ]);
});

test('the GPU image takes the arguments that the deploy gives', () => {
  const names = restsOf(instructionsOf('Dockerfile.gpu'), 'ARG').map((rest) => rest.split('=')[0]);
  expect(names).toEqual(['BASE_IMAGE', 'DEVICE', 'WHISPER_MODELS', 'ALIGNMENT_LANGUAGES', 'DIARIZATION']);
  expect(restsOf(instructionsOf('Dockerfile.api'), 'ARG')[0]).toBe(
    restsOf(instructionsOf('Dockerfile.gpu'), 'ARG')[0],
  );
});

test('recordings, models, keys and settings that lie in the folder are not sent to a build', () => {
  const kept = ['api/main.ts', 'core/job.ts', 'gpu-service/sidecar/zeroscribe_sidecar/service.py'];
  const left = [
    ...[
      '.env',
      '.env.production',
      'data/blobs/media',
      'models/small/model.bin',
      'output/talk.srt',
      'key.json',
    ],
    ...['recording.mp3', 'node_modules/pino/package.json', '.venv/bin/python', '.git/config', 'setup.log'],
    ...['api/.env', 'core/job.test.ts', 'tests/run.ts', 'gpu-service/sidecar/tests/conftest.py'],
    ...['gpu-service/sidecar/zeroscribe_sidecar/__pycache__/service.pyc', 'deploy/environments/staging.ts'],
  ];
  expect(kept.filter((path) => !isSent(path))).toEqual([]);
  expect(left.filter(isSent)).toEqual([]);
});
