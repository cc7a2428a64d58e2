import type { Storage } from '@google-cloud/storage';
import { z } from 'zod';

export const CLOUD_STORAGE_ENVIRONMENT = z.object({
  STORAGE_API_ENDPOINT: z.url().optional().describe('An emulator of Cloud Storage.'),
});

/**
 * Asks for credentials when they are first needed, and none of an emulator, which has no project either. The client
 * takes a third of a second to load, so it is loaded here and not by whoever may need it.
 */
export async function openCloudStorage(apiEndpoint: string | undefined): Promise<Storage> {
  const { Storage } = await import('@google-cloud/storage');
  return new Storage(apiEndpoint === undefined ? {} : { apiEndpoint, projectId: 'emulator' });
}

/** The same for whoever may need it later, and several times: the client, with its access token, is made once. */
export function cloudStorageWhenNeeded(apiEndpoint: string | undefined): () => Promise<Storage> {
  let opened: Promise<Storage> | undefined;
  return () => {
    opened ??= openCloudStorage(apiEndpoint);
    return opened;
  };
}
