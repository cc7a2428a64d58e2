import type { Chunk, DetectSpeech, PcmFile, Transcribe } from '../../gpu-service/supervisor/protocol.ts';

/** With what a job has unless its user says otherwise. */
export function detectSpeechIn(audio: PcmFile): DetectSpeech {
  return {
    type: 'detect_speech',
    audio,
    method: 'silero',
    vad_onset: 0.5,
    vad_offset: 0.363,
    chunk_size: 30,
  };
}

export function transcribeIn(
  audio: PcmFile,
  { model, chunks }: Pick<Transcribe, 'model'> & { chunks: Chunk[] },
): Transcribe {
  return {
    type: 'transcribe',
    audio,
    model,
    chunks,
    language: 'en',
    task: 'transcribe',
    prompt: null,
    hotwords: null,
    word_timestamps: true,
  };
}
