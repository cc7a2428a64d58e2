import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Storage } from '@google-cloud/storage';
import { GcsBlobs } from '../core/blobs/gcs-blobs.ts';
import { GcsRecords } from '../core/records/gcs-records.ts';
import { startFakeCloudStorage } from '../tests/support/fake-cloud-storage/fake-cloud-storage.ts';
import { startApi } from '../tests/support/start-api.ts';

export type CloudRequests = Record<string, number>;

/** What one call of the API costs in requests to Cloud Storage and Cloud Tasks: there they are the time it takes. */
export async function countCloudRequests(form: {
  headers: Record<string, string>;
  body: Uint8Array<ArrayBuffer>;
}): Promise<{ submission: CloudRequests; get: CloudRequests }> {
  const folder = await mkdtemp(join(tmpdir(), 'zeroscribe-bench-'));
  const storage = await startFakeCloudStorage({ folder, buckets: ['bench'] });
  const bucket = new Storage({ apiEndpoint: storage.url, projectId: 'bench' }).bucket('bench');
  const requests: string[] = [];
  const api = await startApi({
    blobs: new GcsBlobs(bucket),
    records: new GcsRecords(bucket),
    queue: {
      enqueue: async () => {
        requests.push('create task');
        return 'created';
      },
      has: async () => true,
      delete: async () => {},
    },
  });
  const count = async (call: () => Promise<Response>) => {
    requests.length = 0;
    storage.requests.length = 0;
    const answer = await (await call()).json();
    // The fake also notes the beginning of those that it refuses.
    const answered = storage.requests.filter(({ status }) => status !== null);
    requests.unshift(...answered.map(({ operation }) => operation));
    const counts: CloudRequests = {};
    for (const name of requests) counts[name] = (counts[name] ?? 0) + 1;
    return { counts, answer };
  };
  try {
    const url = `${api.url}/v1/transcriptions`;
    const submission = await count(() => fetch(url, { method: 'POST', ...form }));
    const { id } = submission.answer as { id: string };
    const get = await count(() => fetch(`${url}/${id}`));
    return { submission: submission.counts, get: get.counts };
  } finally {
    await api.stop();
    await storage.close();
    await rm(folder, { recursive: true });
  }
}
