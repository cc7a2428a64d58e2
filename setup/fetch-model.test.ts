import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterEach, beforeEach, expect, test } from '@jest/globals';
import { readInstallation } from '../core/installation.ts';

// The real client of the hub against a small hub of our own.

const { python } = readInstallation();
const REVISION = 'a'.repeat(40);
const REPOSITORY = 'somebody/some-model';
const FILES: Record<string, string> = {
  'config.json': '{}',
  'model.bin': 'weights',
  'parts/other.bin': 'more weights',
  'README.md': 'not asked for',
};
const sha256 = (text = '') => createHash('sha256').update(text).digest('hex');
const isLarge = (name: string) => name.endsWith('.bin');

let folder: string;
let hub: Server;
let url: string;
/** What the hub serves in the place of its file, by name. */
let swapped: Record<string, string>;
let isGated: boolean;
let tokens: Set<string | undefined>;

beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), 'fetch-model-'));
  [swapped, isGated, tokens] = [{}, false, new Set()];
  hub = createServer((request, response) => {
    const { pathname, searchParams } = new URL(request.url ?? '/', 'http://hub');
    tokens.add(request.headers.authorization);
    const refusal = { 'x-error-code': 'GatedRepo', 'x-error-message': 'Access is restricted' };
    if (pathname === '/') return response.end();
    if (pathname === `/api/models/${REPOSITORY}/revision/${REVISION}`) {
      const siblings = Object.entries(FILES).map(([rfilename, text]) => ({
        rfilename,
        ...(searchParams.has('blobs') && {
          size: text.length,
          ...(isLarge(rfilename) && { lfs: { sha256: sha256(text), size: text.length, pointerSize: 130 } }),
        }),
      }));
      response.setHeader('content-type', 'application/json');
      return response.end(JSON.stringify({ id: REPOSITORY, modelId: REPOSITORY, sha: REVISION, siblings }));
    }
    const name = pathname.slice(`/${REPOSITORY}/resolve/${REVISION}/`.length);
    const text = FILES[name];
    if (text === undefined) return response.writeHead(404).end();
    if (isGated && request.headers.authorization !== 'Bearer a-token')
      return response.writeHead(401, refusal).end();
    const served = swapped[name] ?? text;
    response.writeHead(200, {
      'x-repo-commit': REVISION,
      etag: `"${isLarge(name) ? sha256(text) : 'a-git-object'}"`,
      'content-length': served.length,
    });
    response.end(request.method === 'HEAD' ? undefined : served);
  });
  await once(hub.listen(0, '127.0.0.1'), 'listening');
  url = `http://127.0.0.1:${(hub.address() as AddressInfo).port}`;
});

afterEach(async () => {
  hub.closeAllConnections();
  hub.close();
  rmSync(folder, { recursive: true });
});

/** The last line that it printed; none when it succeeded. */
async function fetchModel(
  known: Record<string, string>,
  env: NodeJS.ProcessEnv = {},
): Promise<string | undefined> {
  const source = {
    repository: REPOSITORY,
    revision: REVISION,
    files: ['config.json', '*.bin'],
    sha256: known,
  };
  const script = join(import.meta.dirname, 'fetch_model.py');
  try {
    await promisify(execFile)(python, [script, JSON.stringify(source), join(folder, 'model')], {
      env: {
        PATH: process.env.PATH,
        HOME: folder,
        HF_ENDPOINT: url,
        HF_HUB_DISABLE_PROGRESS_BARS: '1',
        ...env,
      },
      timeout: 60_000,
    });
    return undefined;
  } catch (error) {
    return (error as { stderr: string }).stderr.trim().split('\n').at(-1);
  }
}

const fetched = (name: string) => {
  const path = join(folder, 'model', name);
  return existsSync(path) ? readFileSync(path, 'utf8') : undefined;
};

test('what was asked for is fetched, and checked against the sums that are known', async () => {
  const known = {
    'model.bin': sha256(FILES['model.bin']),
    'parts/other.bin': sha256(FILES['parts/other.bin']),
  };
  expect(await fetchModel(known)).toBeUndefined();
  expect(fetched('model.bin')).toBe('weights');
  expect(fetched('parts/other.bin')).toBe('more weights');
  expect(fetched('README.md')).toBeUndefined();
});

test('weights whose sum is not known are checked against what the hub lists', async () => {
  expect(await fetchModel({})).toBeUndefined();
  swapped['model.bin'] = 'weight5';
  rmSync(join(folder, 'model'), { recursive: true });
  expect(await fetchModel({})).toBe(`model.bin of ${REPOSITORY} is not the file that was expected (SHA-256)`);
  // The next try does not take it for what it wanted.
  expect(fetched('model.bin')).toBeUndefined();
});

test('a hub that serves and lists other weights is not believed', async () => {
  expect(await fetchModel({ 'model.bin': sha256('the true weights') })).toBe(
    `model.bin of ${REPOSITORY} is not the file that was expected (SHA-256)`,
  );
});

test('weights that are missing at that revision are missed', async () => {
  expect(await fetchModel({ 'tokens.bin': sha256('') })).toBe(
    `${REPOSITORY} has no tokens.bin at its revision ${REVISION}`,
  );
});

test('a gated model says where to accept its conditions, and comes with a token', async () => {
  isGated = true;
  expect(await fetchModel({})).toBe(
    `${REPOSITORY} is gated: accept its conditions at ${url}/${REPOSITORY} and give the token of that account as HF_TOKEN`,
  );
  expect(await fetchModel({}, { HF_TOKEN: 'a-token' })).toBeUndefined();
  expect(tokens).toContain('Bearer a-token');
});
