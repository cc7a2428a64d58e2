import { z } from 'zod';
import { RawSegment } from '../../core/transcripts/raw-segment.ts';

/**
 * What the worker and the Python sidecar say to each other: one JSON object per line, to the sidecar on its file
 * descriptor 3, from it on 4. Its stdout and stderr are only logs, so no library that prints can break the protocol.
 * A process runs one command at a time; each is answered by exactly one `done` or `failed` with its id, after any
 * number of `progress` and `batch` messages. Times are seconds from the start of the audio, rounded to the millisecond,
 * except the chunks of detect_speech: rounding those would move the samples that the model hears, and so the text.
 * The other half is gpu-service/sidecar/zeroscribe_sidecar/protocol.py.
 */
export const PROTOCOL_VERSION = 1;

/**
 * The sidecar is two processes. The recognizer finds speech, its language and its text, and is ready in a second. The
 * annotator finds out when each word was said and by whom, and needs PyTorch, which takes seconds to import.
 */
export const Role = z.enum(['recognizer', 'annotator']);
export type Role = z.infer<typeof Role>;

/** Given to each once, as JSON in its only argument. The sidecar reads no environment variable of ours. */
export interface SidecarConfig {
  role: Role;
  /** Name → folder of a CTranslate2 Whisper model. */
  models: Record<string, string>;
  /** Loaded at start; another is loaded when a command asks for it, and replaces it. */
  default_model: string;
  device: 'cpu' | 'cuda';
  /** Of CTranslate2: int8, float16, float32, … */
  compute_type: string;
  cpu_threads: number;
  /** Chunks that are transcribed together, unless a GPU says how much memory is free; halved when it runs out. */
  batch_size: number;
  /** Language code → folder of a wav2vec2 CTC model in the Hugging Face layout. */
  alignment_models: Record<string, string>;
  /** Folder or config.yaml of a pyannote pipeline, or its name in a filled Hugging Face cache; null: no diarization. */
  diarization_model: string | null;
}

/** 16 kHz mono signed 16-bit little-endian PCM without a header. Python maps it, so its length costs no memory. */
export interface PcmFile {
  path: string;
  samples: number;
}

/** A stretch of speech of at most `chunk_size` seconds: what the model hears at once. */
export const Chunk = z.object({ start: z.number(), end: z.number() });
export type Chunk = z.infer<typeof Chunk>;

/** What became of one chunk. */
export const TranscribedChunk = z.object({
  start: z.number(),
  end: z.number(),
  /** As the model wrote it: the concatenation over all chunks is the text of the transcript. */
  text: z.string(),
  avg_logprob: z.number(),
  /** Sentences with word times by cross-attention, or one segment without words when none were asked for. */
  segments: z.array(RawSegment),
});
export type TranscribedChunk = z.infer<typeof TranscribedChunk>;

/** The sentences of one chunk with word times from the alignment model. */
export const AlignedChunk = z.object({ segments: z.array(RawSegment) });
export type AlignedChunk = z.infer<typeof AlignedChunk>;

export const SpeakerTurn = z.object({ start: z.number(), end: z.number(), speaker: z.string() });
export type SpeakerTurn = z.infer<typeof SpeakerTurn>;

export interface DetectSpeech {
  type: 'detect_speech';
  audio: PcmFile;
  /** The model that listens: Silero's in the recognizer, or pyannote's, WhisperX's own, in the annotator. */
  method: 'silero' | 'pyannote';
  vad_onset: number;
  vad_offset: number;
  chunk_size: number;
}

export interface DetectLanguage {
  type: 'detect_language';
  audio: PcmFile;
  model: string;
  /** Windows are taken from these, spread over the recording. */
  chunks: Chunk[];
}

export interface Transcribe {
  type: 'transcribe';
  audio: PcmFile;
  model: string;
  /** Those still to do, in order. Each `batch` answers the next ones. */
  chunks: Chunk[];
  language: string;
  task: 'transcribe' | 'translate';
  prompt: string | null;
  hotwords: string | null;
  word_timestamps: boolean;
}

export interface Align {
  type: 'align';
  audio: PcmFile;
  language: string;
  /** Those still to do, in order. Each `batch` answers the next ones. */
  chunks: { start: number; end: number; text: string }[];
}

export interface Diarize {
  type: 'diarize';
  audio: PcmFile;
  num_speakers: number | null;
  min_speakers: number | null;
  max_speakers: number | null;
}

export type SidecarCommand = DetectSpeech | DetectLanguage | Transcribe | Align | Diarize;

export type ToSidecar =
  | ({ id: number } & SidecarCommand)
  /** The command with this id ends soon with `failed`, reason `canceled`. Unknown or finished ids are ignored. */
  | { type: 'cancel'; id: number }
  | { type: 'shutdown' };

/** Results of `done`, by the type of the command. */
export const RESULTS = {
  detect_speech: z.object({ chunks: z.array(Chunk) }),
  detect_language: z.object({
    language: z.string(),
    probability: z.number().min(0).max(1),
    windows: z.int(),
  }),
  /** Everything was in the batches. `batch_size` is what memory allowed in the end. */
  transcribe: z.object({ batch_size: z.int() }),
  align: z.object({}),
  diarize: z.object({ turns: z.array(SpeakerTurn) }),
} as const satisfies Record<SidecarCommand['type'], z.ZodType>;

export type SidecarResult<T extends SidecarCommand['type']> = z.infer<(typeof RESULTS)[T]>;

export const FailureReason = z.enum([
  'canceled',
  'out-of-memory',
  'audio-unreadable',
  'model-not-available',
  'internal',
]);
export type FailureReason = z.infer<typeof FailureReason>;

/** Loaded when a command first needs it: libraries with their model. */
export const Loadable = z.enum(['speech', 'recognition', 'alignment', 'diarization']);
export type Loadable = z.infer<typeof Loadable>;

export const FromSidecar = z.discriminatedUnion('type', [
  /** What it can load before a command asks for it is loaded. Sent once. */
  z.object({
    type: z.literal('ready'),
    protocol: z.literal(PROTOCOL_VERSION),
    role: Role,
    device: z.string(),
    /** Of the recognizer; the annotator has models for languages and speakers only. */
    model: z.string().nullable(),
    compute_type: z.string().nullable(),
    /** Since the process began; the next three are parts of it. */
    load_seconds: z.number(),
    imports_seconds: z.number(),
    device_seconds: z.number(),
    model_seconds: z.number(),
  }),
  /** Instead of `ready`: it cannot start, and will not when started again. The process ends by itself. */
  z.object({ type: z.literal('refused'), reason: FailureReason, message: z.string() }),
  z.object({ type: z.literal('progress'), id: z.int(), fraction: z.number().min(0).max(1) }),
  z.object({
    type: z.literal('batch'),
    id: z.int(),
    /** TranscribedChunk for `transcribe`, AlignedChunk for `align`. */
    chunks: z.array(z.unknown()),
  }),
  z.object({
    type: z.literal('done'),
    id: z.int(),
    result: z.unknown(),
    /** What was not there yet when the command needed it → how many seconds the command waited for it. */
    loads: z.partialRecord(Loadable, z.number()),
  }),
  z.object({ type: z.literal('failed'), id: z.int(), reason: FailureReason, message: z.string() }),
]);
export type FromSidecar = z.infer<typeof FromSidecar>;
