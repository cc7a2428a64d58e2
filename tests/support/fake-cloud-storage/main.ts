import { parseArgs } from 'node:util';
import { startFakeCloudStorage } from './fake-cloud-storage.ts';

/** The fake as a process of its own. Says where it listens in one line of JSON: `{"url":"http://127.0.0.1:…"}`. */
const { values } = parseArgs({
  options: {
    folder: { type: 'string' },
    port: { type: 'string', default: '0' },
    bucket: { type: 'string', multiple: true, default: [] },
    'clock-offset-ms': { type: 'string', default: '0' },
    'limits-rate': { type: 'boolean', default: false },
  },
});
if (values.folder === undefined) throw new Error('--folder is missing');

const fake = await startFakeCloudStorage({
  folder: values.folder,
  port: Number(values.port),
  buckets: values.bucket,
  limitsRate: values['limits-rate'],
});
fake.setClockOffset(Number(values['clock-offset-ms']));
process.stdout.write(`${JSON.stringify({ url: fake.url })}\n`);

for (const signal of ['SIGTERM', 'SIGINT'] as const) {
  process.once(signal, () => void fake.close().then(() => process.exit(0)));
}
