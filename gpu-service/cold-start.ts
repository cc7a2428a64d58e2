import type { ColdStart } from '../core/job.ts';
import { spanSeconds } from '../core/to-the-millisecond.ts';
import { LISTENING } from '../core/triggers/early-server.ts';
import type { Loadable } from './supervisor/protocol.ts';
import { type SidecarStart, startParts } from './supervisor/sidecar-start.ts';

/** In the milliseconds of `performance.now()`, which count from the start of this process. */
export interface Span {
  fromMs: number;
  toMs: number;
}

const PROCESS_STARTED_AT_MS = performance.timeOrigin;

/**
 * What one job saw of the start of this instance. It was cold for the first job alone, and only if that one was
 * waiting already, here or in its queue: an instance that is kept, or a server, has usually been ready for long.
 */
export function describeColdStart(start: SidecarStart, queuedAtMs: number, audio: Span): ColdStart {
  const audioSeconds = spanSeconds(audio.toMs - audio.fromMs);
  const hasWaited = start.readyMs > audio.fromMs || PROCESS_STARTED_AT_MS + start.readyMs > queuedAtMs;
  if (!start.isUnused || !hasWaited) {
    return { ...NOTHING, instance: 'warm', audio_seconds: audioSeconds };
  }
  return {
    ...NOTHING,
    instance: 'cold',
    ...(start.isFirst ? processParts(queuedAtMs) : {}),
    ...startParts(start),
    audio_seconds: audioSeconds,
    overlap_seconds: spanSeconds(Math.min(audio.toMs, start.readyMs) - audio.fromMs),
  };
}

/** Adds what the sidecar loaded only when a command of the job needed it. */
export function addLoads(coldStart: ColdStart, loads: Partial<Record<Loadable, number>>): void {
  for (const what of Object.keys(loads) as Loadable[]) coldStart[`${what}_seconds`] ??= loads[what] ?? null;
}

const NOTHING: Omit<ColdStart, 'instance'> = {
  queue_to_process_seconds: null,
  listening_seconds: null,
  spawn_seconds: null,
  python_seconds: null,
  imports_seconds: null,
  device_seconds: null,
  model_seconds: null,
  ready_seconds: null,
  speech_seconds: null,
  recognition_seconds: null,
  alignment_seconds: null,
  diarization_seconds: null,
  audio_seconds: null,
  overlap_seconds: null,
};

function processParts(queuedAtMs: number): Partial<ColdStart> {
  // Absent where a process does one task and listens to nobody.
  const listening = performance.getEntriesByName(LISTENING, 'mark').at(0);
  return {
    queue_to_process_seconds:
      queuedAtMs < PROCESS_STARTED_AT_MS ? spanSeconds(PROCESS_STARTED_AT_MS - queuedAtMs) : null,
    listening_seconds: listening === undefined ? null : spanSeconds(listening.startTime),
  };
}
