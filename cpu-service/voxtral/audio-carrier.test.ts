import { generateKeyPairSync } from 'node:crypto';
import { Writable } from 'node:stream';
import { Storage } from '@google-cloud/storage';
import { afterEach, beforeEach, expect, jest, test } from '@jest/globals';
import { createLog } from '../../core/log.ts';
import { makeVoxtralWorker, type VoxtralWorker } from '../../tests/support/voxtral-worker.ts';
import { type AudioCarrier, LinkCarrier, UploadCarrier } from './audio-carrier.ts';
import { FLAC_HEADER_BYTES, sampleCount } from './flac-header.ts';

let worker: VoxtralWorker;
let upload: AudioCarrier;
let logged: Record<string, unknown>[];
const never = new AbortController().signal;
const FLAC = Buffer.concat([Buffer.from('fLaC'), Buffer.alloc(FLAC_HEADER_BYTES - 4), Buffer.from('frames')]);

beforeEach(async () => {
  worker = await makeVoxtralWorker();
  upload = new UploadCarrier(worker.store.blobs, worker.scratchDir);
  logged = [];
  // Of the way in which the key is given here.
  jest.spyOn(console, 'warn').mockImplementation(() => {});
  await worker.store.blobs.write('work/a', FLAC, { contentType: 'audio/flac' });
});
afterEach(() => worker.remove());

const log = () =>
  createLog('test', {
    destination: new Writable({
      write(line, _encoding, done) {
        logged.push(JSON.parse(String(line)));
        done();
      },
    }),
  });

const { privateKey } = generateKeyPairSync('rsa', {
  modulusLength: 2048,
  privateKeyEncoding: { type: 'pkcs8', format: 'pem' },
  publicKeyEncoding: { type: 'spki', format: 'pem' },
});
const credentials = { client_email: 'cpu@test.iam.gserviceaccount.com', private_key: privateKey };
const bucketWith = (options: ConstructorParameters<typeof Storage>[0]) =>
  new Storage(options).bucket('recordings');

test('an upload is the file itself, with its length in its header', async () => {
  await using carried = await upload.carry('work/a', 12_345, never);
  const { file } = carried.audio as { file: File };
  const bytes = Buffer.from(await file.arrayBuffer());
  expect(sampleCount(bytes)).toBe(12_345);
  expect(bytes.subarray(FLAC_HEADER_BYTES)).toEqual(FLAC.subarray(FLAC_HEADER_BYTES));
  expect(file.name).toBe('audio.flac');
});

test('where the store is a bucket and somebody may sign, it is a link that soon runs out', async () => {
  const carrier = new LinkCarrier(bucketWith({ credentials, projectId: 'p' }), upload, log());
  await using carried = await carrier.carry('work/a', 1, never);
  const { fileUrl } = carried.audio as { fileUrl: string };
  const url = new URL(fileUrl);
  expect(`${url.host}${url.pathname}`).toBe('storage.googleapis.com/recordings/work/a');
  expect(Number(url.searchParams.get('X-Goog-Expires'))).toBeLessThanOrEqual(20 * 60);
  expect(url.searchParams.get('X-Goog-Signature')).toMatch(/^[0-9a-f]{512}$/);
  expect(logged).toEqual([]);
});

test('once Mistral could not fetch one, everything is uploaded, and the log says so once and without it', async () => {
  const carrier = new LinkCarrier(bucketWith({ credentials, projectId: 'p' }), upload, log());
  const linked = await carrier.carry('work/a', 1, never);
  await using other = (await linked.instead?.carry()) ?? linked;
  expect(other.audio).toHaveProperty('file');
  linked.instead?.confirm();
  linked.instead?.confirm();
  await using later = await carrier.carry('work/a', 1, never);
  expect(later.audio).toHaveProperty('file');
  expect(logged).toHaveLength(1);
  expect(JSON.stringify(logged)).not.toMatch(/Signature|https:/);
});

test('where a link cannot be signed now, only this is uploaded', async () => {
  const authorized = bucketWith({ credentials, projectId: 'p' });
  let failures = 1;
  const passing = Object.assign(Object.create(authorized), {
    file: (key: string) =>
      failures-- > 0
        ? { getSignedUrl: () => Promise.reject(new Error('The service is currently unavailable.')) }
        : authorized.file(key),
  });
  const carrier = new LinkCarrier(passing, upload, log());
  await using first = await carrier.carry('work/a', 1, never);
  await using second = await carrier.carry('work/a', 1, never);
  expect([first, second].map(({ audio }) => Object.keys(audio)[0])).toEqual(['file', 'fileUrl']);
  expect(logged).toHaveLength(1);
});

test('where nobody may sign, or a link would be too long, it is uploaded', async () => {
  const authorized = bucketWith({ projectId: 'p' });
  const cannot = Object.assign(Object.create(authorized), {
    file: () => ({ getSignedUrl: () => Promise.reject(Object.assign(new Error('secret'), { code: 403 })) }),
  });
  const tooLong = Object.assign(Object.create(authorized), {
    file: () => ({ getSignedUrl: async () => [`https://bucket.example/${'a'.repeat(2_100)}`] }),
  });
  for (const [bucket, because] of [
    [
      cannot,
      'no link could be signed (403): the service account needs iam.serviceAccounts.signBlob on itself',
    ],
    [tooLong, 'a signed link would be too long'],
  ]) {
    logged = [];
    const carrier = new LinkCarrier(bucket, upload, log());
    for (let n = 0; n < 2; n++) {
      await using carried = await carrier.carry('work/a', 1, never);
      expect(carried.audio).toHaveProperty('file');
    }
    expect(logged).toMatchObject([{ because }]);
  }
});
