import type { Request } from 'express';
import { jobCost } from '../core/costs/job-cost.ts';
import { PRICES } from '../core/costs/prices.ts';
import { isSettled, type JobRecord } from '../core/job.ts';
import type { ApiDependencies } from './dependencies.ts';
import { baseUrl } from './http/base-url.ts';
import { signMediaLink } from './http/media-link.ts';
import { percentOf } from './progress.ts';

type ViewDependencies = Pick<ApiDependencies, 'publicUrl' | 'urlSigningKey' | 'now' | 'backends' | 'prices'>;

/** What clients see of a job. Keys of objects, leases and tasks stay inside. */
export function viewTranscription(record: JobRecord, req: Request, dependencies: ViewDependencies) {
  return {
    id: record.id,
    object: 'transcription',
    status: record.status,
    stage: record.stage,
    progress: {
      percent: percentOf(record),
      stages: record.stages.map(({ name, status, seconds, progress }) => ({
        name,
        status,
        seconds,
        ...(progress === undefined ? {} : { progress }),
      })),
    },
    created_at: record.created_at,
    started_at: record.started_at,
    completed_at: record.completed_at,
    expires_at: null,
    source: {
      type: record.source.type,
      filename: record.source.filename,
      bytes: record.source.bytes,
      ...addressOf(record.source),
    },
    duration_seconds: record.duration_seconds,
    options: { ...record.options, model: record.model ?? record.options.model },
    backend: record.backend,
    attempt: Math.max(1, record.tries.transcribe.attempt || record.tries.ingest.attempt),
    routing: { ...record.routing, estimates: record.routing.estimates ?? [] },
    language: record.language,
    warnings: record.warnings,
    problem: record.problem,
    metrics: record.metrics,
    usage: record.usage.map(({ instances: _instances, ...usage }) => usage),
    // Of one that has not ended, what it has cost so far.
    cost:
      record.cost !== null && isSettled(record.status)
        ? record.cost
        : jobCost(record, pricingOf(dependencies)),
    metadata: record.metadata,
    urls: urlsOf(record, req, dependencies),
  };
}

function pricingOf({ backends, prices = PRICES }: ViewDependencies) {
  return { backends, prices };
}

/** Under the name by which the request gave it. */
function addressOf({ type, address }: JobRecord['source']): Record<string, string> {
  if (address === null) return {};
  return { [{ upload: 'upload_id', url: 'url', gcs: 'gcs_uri' }[type]]: address };
}

/** Where the transcription is found, as the client reaches us. */
export function selfUrl(id: string, req: Request, publicUrl: string | undefined): string {
  return `${baseUrl(req, publicUrl)}/v1/transcriptions/${id}`;
}

function urlsOf(record: JobRecord, req: Request, { publicUrl, urlSigningKey, now }: ViewDependencies) {
  const self = selfUrl(record.id, req, publicUrl);
  return {
    self,
    transcript: `${self}/transcript`,
    media: `${self}/media?${signMediaLink(urlSigningKey, record, now())}`,
    cancel: `${self}/cancel`,
  };
}
