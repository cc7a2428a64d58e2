import type { Bucket } from '@google-cloud/storage';
import type { Blobs } from '../../core/blobs/blobs.ts';
import type { Logger } from '../../core/log.ts';
import { LinkCarrier, UploadCarrier } from './audio-carrier.ts';
import type { MistralConfig } from './config.ts';
import { openMistral } from './mistral.ts';
import type { VoxtralTools } from './transcribe-with-voxtral.ts';

/** What a service needs to work for the tier standard. `bucket`: of a store that can be linked to from anywhere. */
export function voxtralTools(
  config: MistralConfig,
  {
    blobs,
    scratchDir,
    bucket,
    log,
    ...others
  }: Pick<VoxtralTools, 'ffmpegPath' | 'access'> & {
    blobs: Blobs;
    scratchDir: string;
    bucket?: Bucket | undefined;
    log: Logger;
  },
): VoxtralTools {
  const upload = new UploadCarrier(blobs, scratchDir);
  const carrier = bucket === undefined ? upload : new LinkCarrier(bucket, upload, log);
  return { mistral: openMistral(config), carrier, ...others };
}
