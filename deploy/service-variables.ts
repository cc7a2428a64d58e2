import { backendEntry } from './backends/backend-entry.ts';
import type { EnvironmentBackend } from './environment.ts';
import type { Layout } from './layout.ts';

/** Environment variables of a service. A test reads them with the services' own readers. */
export type Variables = Record<string, string>;

/** What all services are told, wherever they run. */
export function platformVariables(layout: Layout, backends: Record<string, unknown>[]): Variables {
  const { environment, bucket, queuePrefix, urls, accounts } = layout;
  const { gcsSources, linkNetworks, maxUploadBytes, logLevel } = environment;
  return {
    // Cloud Run sets PORT and lets nobody else do it.
    HOST: '0.0.0.0',
    LOG_LEVEL: logLevel,
    STORE: 'gcs',
    GCS_BUCKET: bucket,
    CLOUD_TASKS_QUEUES: queuePrefix,
    CPU_SERVICE_URL: urls.cpu,
    TASK_INVOKER_EMAIL: accounts.invoker,
    BACKENDS: JSON.stringify(backends),
    ...(gcsSources.length > 0 && { GCS_SOURCES: gcsSources.join(',') }),
    ...(linkNetworks.length > 0 && { LINK_NETWORKS: linkNetworks.join(',') }),
    ...(maxUploadBytes !== undefined && { MAX_UPLOAD_BYTES: String(maxUploadBytes) }),
  };
}

/** For the services that let jobs in and choose where they run. */
export function spendVariables({ environment: { dailySpendLimitUsd } }: Layout): Variables {
  return dailySpendLimitUsd === undefined ? {} : { DAILY_SPEND_LIMIT_USD: String(dailySpendLimitUsd) };
}

/** For a private Cloud Run service: the platform has checked the token, and for which address it was made. */
export function privateServiceVariables(url: string): Variables {
  return { TASK_AUTH: 'iam', TASK_AUDIENCE: url };
}

/** The GPU image on any backend. It starts no other, so it needs no specs. */
export function gpuVariables(layout: Layout, backend: EnvironmentBackend): Variables {
  const { backends, images } = layout.environment;
  const [defaultModel] = images.whisperModels;
  return {
    ...platformVariables(
      layout,
      backends.map((one) => backendEntry(layout, one)),
    ),
    BACKEND: backend.name,
    ...(defaultModel !== undefined && { WHISPER_MODEL: defaultModel }),
  };
}

/** What a run has left after its image and models are there, and for putting its last checkpoint away. */
const RUN_MARGIN_S = 600;

/** For a run that the platform ends after `timeoutSeconds`: it ends by itself before, and goes on in another. */
export function runVariables(timeoutSeconds: number): Variables {
  return { RUN_CALL_LIMIT_SECONDS: String(timeoutSeconds - RUN_MARGIN_S) };
}
