import { statSync } from 'node:fs';
import { basename } from 'node:path';
import type { Client, Transcription } from '../../cli/client.ts';
import { waitFor } from './wait-for.ts';

/** Uploads the file as the command line does. */
export function submit(
  client: Client,
  path: string,
  options: Record<string, string> = {},
): Promise<Transcription> {
  return client.create({ path, filename: basename(path), sizeBytes: statSync(path).size, options });
}

export function waitUntilSettled(client: Client, id: string, timeoutMs = 240_000): Promise<Transcription> {
  return waitFor(
    `the end of ${id}`,
    async () => {
      const transcription = await client.get(id);
      return transcription.status === 'queued' || transcription.status === 'processing'
        ? undefined
        : transcription;
    },
    { timeoutMs, intervalMs: 200 },
  );
}
