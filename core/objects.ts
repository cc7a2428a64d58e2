/** The names of everything in the store. No other file builds a key. */

const CROCKFORD = '0123456789abcdefghjkmnpqrstvwxyz';
/** 2^45 ms: the year 3084. Inverted, so that listing a prefix gives the newest first. */
const TIME_CEILING_MS = 2 ** 45;

/** `tr_` + nine characters of inverted time + ten of randomness (50 bits). */
export const newJobId = (nowMs: number = Date.now()): string => `tr_${sortableId(nowMs)}`;
export const newUploadId = (nowMs: number = Date.now()): string => `up_${sortableId(nowMs)}`;

function sortableId(nowMs: number): string {
  let inverted = TIME_CEILING_MS - 1 - nowMs;
  let time = '';
  for (let i = 0; i < 9; i++) {
    time = CROCKFORD[inverted % 32] + time;
    inverted = Math.floor(inverted / 32);
  }
  const random = Array.from(crypto.getRandomValues(new Uint8Array(10)), (byte) => CROCKFORD[byte % 32]).join(
    '',
  );
  return `${time}${random}`;
}

/** When the job was submitted, by the clock of whoever took it. */
export function jobIdTime(id: string): number {
  let inverted = 0;
  for (const character of id.slice(3, 12)) inverted = inverted * 32 + CROCKFORD.indexOf(character);
  return TIME_CEILING_MS - 1 - inverted;
}

export const JOB_ID = /^tr_[0-9a-hjkmnp-tv-z]{19}$/;
export const UPLOAD_ID = /^up_[0-9a-hjkmnp-tv-z]{19}$/;
export const OWNER = /^[a-z0-9-]{1,63}$/;

/** Which job: enough to find everything of it. */
export interface JobRef {
  owner: string;
  id: string;
}

export const jobKey = ({ owner, id }: JobRef): string => `jobs/${owner}/${id}`;
export const jobPrefix = (owner: string): string => `jobs/${owner}/`;

/** Present from before a job's first byte is stored until nothing of it is left to do. Reconcile walks these. */
export const activeKey = ({ owner, id }: JobRef): string => `active/${owner}/${id}`;
export const ACTIVE_PREFIX = 'active/';
export function parseActiveKey(key: string): JobRef | undefined {
  const [, owner, id] = key.split('/');
  return owner && id ? { owner, id } : undefined;
}

/** Which upload: media that waits to be named by a job. */
export interface UploadRef {
  owner: string;
  id: string;
}

export const uploadKey = ({ owner, id }: UploadRef): string => `uploads/${owner}/${id}`;
export const uploadLockKey = ({ owner, id }: UploadRef): string => `upload-locks/${owner}/${id}`;
export const UPLOAD_LOCK_PREFIX = 'upload-locks/';
export const uploadMediaKey = ({ owner, id }: UploadRef): string => `uploads/${owner}/${id}/media`;
export const uploadPrefix = ({ owner, id }: UploadRef): string => `uploads/${owner}/${id}/`;

export const idempotencyKey = (owner: string, hash: string): string => `idempotency/${owner}/${hash}`;
export const capabilitiesKey = (backend: string): string => `capabilities/${backend}`;

/** Runs of a backend that were started a moment ago, and that its API may not list yet. */
export const startsKey = (backend: string): string => `starts/${backend}`;

/** Which instance, of those that work for a backend. */
export interface InstanceRef {
  backend: string;
  id: string;
}

/** Its heartbeat. */
export const instanceKey = ({ backend, id }: InstanceRef): string => `instances/${backend}/${id}`;
export const instancePrefix = (backend: string): string => `instances/${backend}/`;
export const INSTANCE_ID = /^[a-z0-9-]{1,80}$/;

/** What the jobs of a day cost, in several records, because each takes one write a second. `day`: as in 2026-11-26. */
export const spendKey = (day: string, shard: number): string => `spend/${day}/${shard}`;
export const spendPrefix = (day: string): string => `spend/${day}/`;

export const mediaKey = ({ owner, id }: JobRef): string => `media/${owner}/${id}/media`;
/** The same of a job that another upload's request has taken over. */
export const takenOverMediaKey = ({ owner, id }: JobRef, upload: JobRef): string =>
  `media/${owner}/${id}/media-of-${upload.id}`;
/** What ingest has fetched from a link. */
export const fetchedMediaKey = ({ owner, id }: JobRef, epoch: number): string =>
  `media/${owner}/${id}/${epoch}.media`;
/** One channel of it, or the mix of all (`channel` 0). */
export const audioKey = ({ owner, id }: JobRef, epoch: number, channel = 0): string =>
  `media/${owner}/${id}/${epoch}.${channel === 0 ? '' : `${channel}.`}flac`;
/** The small copy for a player. */
export const playbackKey = ({ owner, id }: JobRef, epoch: number): string =>
  `media/${owner}/${id}/${epoch}.mp3`;
export const mediaPrefix = ({ owner, id }: JobRef): string => `media/${owner}/${id}/`;

export const transcriptKey = ({ id }: JobRef, epoch: number): string => `transcripts/${id}/${epoch}.json`;
export const transcriptPrefix = ({ id }: JobRef): string => `transcripts/${id}/`;

/** A finished stage (`detect-speech`, `diarize`) of the attempt that held `epoch`. */
export const checkpointKey = ({ id }: JobRef, epoch: number, stage: string): string =>
  `work/${id}/${epoch}/${stage}.json`;
/** One piece of a stage that finishes bit by bit (`transcribe`, `align`); pieces count from 0 in each epoch. */
export const checkpointPartKey = ({ id }: JobRef, epoch: number, stage: string, part: number): string =>
  `work/${id}/${epoch}/${stage}-${part}.json`;
/** What is sent to an API in one request: part of the audio of a channel. */
export const audioPieceKey = ({ id }: JobRef, epoch: number, channel: number, piece: number): string =>
  `work/${id}/${epoch}/audio-${channel}-${piece}.flac`;
export const workPrefix = ({ id }: JobRef): string => `work/${id}/`;

/** Under which epoch a blob was written: `<epoch>.json` or `<epoch>/…` after the prefix. 0: before any. */
export function epochOfKey(key: string, prefix: string): number {
  const epoch = /^(\d+)[./]/.exec(key.slice(prefix.length))?.[1];
  return epoch === undefined ? 0 : Number(epoch);
}
