import { describe, test } from '@jest/globals';
import { describeCloudStorage } from './fake-cloud-storage/cloud-storage.contract.ts';
import { FAKE_GCS_SERVER_GAPS, findFakeGcsServer, startFakeGcsServer } from './fake-gcs-server.ts';

const binary = await findFakeGcsServer();
if (binary === undefined) {
  describe.skip('fake-gcs-server as Cloud Storage', () => test('has no binary here', () => {}));
} else {
  describeCloudStorage(
    'fake-gcs-server',
    async () => {
      const server = await startFakeGcsServer(binary);
      return { ...server, dispose: () => server.stop() };
    },
    FAKE_GCS_SERVER_GAPS,
  );
}
