import { openAsBlob } from 'node:fs';
import type { Bucket } from '@google-cloud/storage';
import type { Blobs } from '../../core/blobs/blobs.ts';
import { localFile } from '../../core/blobs/local-file.ts';
import type { Logger } from '../../core/log.ts';
import { FLAC_HEADER_BYTES, withSampleCount } from './flac-header.ts';
import type { SentAudio } from './mistral.ts';

/** How a stored FLAC gets to the API: by a link or in the request. Only this file knows which. */
export interface AudioCarrier {
  /** What is stored may go to the API as it is, so it has to say how long it is. */
  readonly mayLink: boolean;
  /** Until it is disposed of, the API can get at the audio. */
  carry(key: string, samples: number, signal: AbortSignal): Promise<CarriedAudio>;
}

export interface CarriedAudio extends AsyncDisposable {
  audio: SentAudio;
  /**
   * What to try when the API refuses it, in case it cannot fetch links from here. Absent, where that is not the reason.
   * Whoever then gets an answer calls `confirm`, and no more links are made.
   */
  instead?: { carry(): Promise<CarriedAudio>; confirm(): void };
}

/** Sends the bytes, straight from the file in the store or a copy of it. */
export class UploadCarrier implements AudioCarrier {
  readonly mayLink = false;
  readonly #blobs: Blobs;
  readonly #scratchDir: string;

  constructor(blobs: Blobs, scratchDir: string) {
    this.#blobs = blobs;
    this.#scratchDir = scratchDir;
  }

  async carry(key: string, samples: number, signal: AbortSignal): Promise<CarriedAudio> {
    const local = await localFile(this.#blobs, key, this.#scratchDir, signal);
    try {
      // Opened as it is needed, so nothing of it but its header is in memory.
      const flac = await openAsBlob(local.path);
      const header = Buffer.from(await flac.slice(0, FLAC_HEADER_BYTES).arrayBuffer());
      const parts = [withSampleCount(header, samples), flac.slice(FLAC_HEADER_BYTES)];
      const file = new File(parts, 'audio.flac', { type: 'audio/flac' });
      return { audio: { file }, [Symbol.asyncDispose]: () => local[Symbol.asyncDispose]() };
    } catch (error) {
      await local[Symbol.asyncDispose]();
      throw error;
    }
  }
}

/** The longest that Mistral takes. */
const MAX_LINK_CHARACTERS = 2_083;

/** Google's client wraps what went wrong and keeps its text alone. Anything else may pass. */
const MAY_NOT_SIGN = /permission|denied|has not been used|disabled|client_email|default credentials/i;

/** Longer than a request is waited for, so that a link is not met when it has just run out. */
const LINK_LIFETIME_MS = 20 * 60_000;

/**
 * Gives a link to the object in the bucket, signed for a few minutes: the bytes go past this service. On Cloud Run the
 * IAM API signs, which the service account must be allowed; where nobody may, everything is uploaded.
 */
export class LinkCarrier implements AudioCarrier {
  readonly mayLink = true;
  readonly #bucket: Bucket;
  readonly #upload: AudioCarrier;
  readonly #log: Logger;
  #isGivenUp = false;

  constructor(bucket: Bucket, upload: AudioCarrier, log: Logger) {
    this.#bucket = bucket;
    this.#upload = upload;
    this.#log = log;
  }

  async carry(key: string, samples: number, signal: AbortSignal): Promise<CarriedAudio> {
    const upload = () => this.#upload.carry(key, samples, signal);
    const fileUrl = await this.#sign(key);
    if (fileUrl === undefined) return upload();
    return {
      audio: { fileUrl },
      instead: {
        carry: upload,
        confirm: () => this.#giveUp('Mistral did not take a signed link'),
      },
      [Symbol.asyncDispose]: async () => {},
    };
  }

  async #sign(key: string): Promise<string | undefined> {
    if (this.#isGivenUp) return undefined;
    try {
      const [url] = await this.#bucket.file(key).getSignedUrl({
        version: 'v4',
        action: 'read',
        expires: Date.now() + LINK_LIFETIME_MS,
      });
      if (url.length <= MAX_LINK_CHARACTERS) return url;
      this.#giveUp('a signed link would be too long');
    } catch (error) {
      const { code, name, message } = error as Error & { code?: unknown };
      if (code === 403 || MAY_NOT_SIGN.test(message)) {
        this.#giveUp(
          `no link could be signed (${code ?? name}): the service account needs iam.serviceAccounts.signBlob on itself`,
        );
      } else {
        this.#log.warn(
          { cause: code ?? name },
          'no link could be signed now: this audio is uploaded to Mistral',
        );
      }
    }
    return undefined;
  }

  #giveUp(because: string): void {
    if (!this.#isGivenUp) this.#log.warn({ because }, 'audio is uploaded to Mistral instead of linked');
    this.#isGivenUp = true;
  }
}
