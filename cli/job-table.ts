import type { Transcription } from './client.ts';
import { printable } from './printable.ts';
import { clock, formatBytes, stageLabel } from './progress.ts';
import { table } from './table.ts';

/** One line per transcription; the file name, which can be long, last. */
export function jobTable(jobs: readonly Transcription[]): string {
  return table([
    ['ID', 'STATUS', 'CREATED', 'LENGTH', 'LANGUAGE', 'FILE'],
    ...jobs.map((job) => [
      job.id,
      statusLabel(job),
      localTime(job.created_at),
      job.duration_seconds === null ? '-' : clock(job.duration_seconds),
      job.language?.code ?? '-',
      job.source.filename ?? '-',
    ]),
  ]);
}

/** Everything worth knowing of one transcription, a line each. */
export function jobSheet(job: Transcription): string {
  const { source, language, metrics, problem } = job;
  const lines: [string, string | null | undefined][] = [
    ['id', job.id],
    ['status', statusLabel(job)],
    ['file', source.filename],
    ['size', source.bytes === null ? null : formatBytes(source.bytes)],
    ['length', job.duration_seconds === null ? null : clock(job.duration_seconds)],
    ['created', localTime(job.created_at)],
    ['started', job.started_at && localTime(job.started_at)],
    ['completed', job.completed_at && localTime(job.completed_at)],
    ['model', job.model ?? job.options.model],
    ['backend', job.routing ? `${job.routing.chosen} (${job.routing.because})` : job.backend],
    ['language', language && languageLabel(language)],
    ['took', metrics.processing_seconds === null ? null : `${metrics.processing_seconds.toFixed(1)} s`],
    [
      'speed',
      metrics.realtime_factor === null ? null : `${metrics.realtime_factor.toFixed(1)} times real time`,
    ],
    // Nothing is what everything costs on a machine of one's own.
    ['cost', job.cost?.marginal_usd ? `$${job.cost.marginal_usd.toFixed(4)}` : null],
    ...job.progress.stages.map(({ name, status, seconds }): [string, string] => [
      stageLabel(name),
      `${status}, ${seconds.toFixed(1)} s`,
    ]),
    ...job.warnings.map(({ message }): [string, string] => ['warning', message]),
    ['problem', problem && `${problem.title}. ${problem.detail}`],
  ];
  const shown = lines.filter((line): line is [string, string] => typeof line[1] === 'string');
  const width = Math.max(...shown.map(([name]) => name.length));
  return shown.map(([name, value]) => `${name.padEnd(width)}  ${printable(value)}\n`).join('');
}

function statusLabel({ status, stage, progress }: Transcription): string {
  return status === 'processing' ? `${stageLabel(stage)} ${Math.floor(progress.percent)} %` : status;
}

function languageLabel({ code, probability }: { code: string; probability: number | null }): string {
  return probability === null ? code : `${code} (detected, ${Math.round(probability * 100)} % sure)`;
}

function localTime(rfc3339: string): string {
  const time = new Date(rfc3339);
  if (Number.isNaN(time.getTime())) return rfc3339;
  // Swedish writes dates as ISO 8601 does.
  return time.toLocaleString('sv-SE', { dateStyle: 'short', timeStyle: 'short' });
}
