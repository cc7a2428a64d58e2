import { usesMistral } from '../access.ts';
import { backendList } from '../backends/backend-list.ts';
import {
  bucketVolume,
  environmentOf,
  labelled,
  limits,
  type Manifest,
  PORT,
  PRIVATE_SERVICE_ANNOTATIONS,
  STARTUP_PROBE,
} from '../knative.ts';
import type { Layout } from '../layout.ts';
import { platformVariables, privateServiceVariables, spendVariables } from '../service-variables.ts';

/** Tasks at a time of one instance, of the queue `cpu`: the service's own limit. */
export const CPU_CONCURRENCY = 4;
const STORE_MOUNT = '/mnt/store';

export function cpuServiceManifest(layout: Layout): Manifest {
  const { cpuService, secrets } = layout.environment;
  return labelled(layout, {
    apiVersion: 'serving.knative.dev/v1',
    kind: 'Service',
    metadata: {
      name: layout.services.cpu,
      labels: {},
      annotations: { ...PRIVATE_SERVICE_ANNOTATIONS },
    },
    spec: {
      template: {
        metadata: {
          annotations: {
            'autoscaling.knative.dev/minScale': String(cpuService.minInstances),
            'autoscaling.knative.dev/maxScale': String(cpuService.maxInstances),
            // Mounts need it.
            'run.googleapis.com/execution-environment': 'gen2',
            'run.googleapis.com/startup-cpu-boost': 'true',
          },
        },
        spec: {
          serviceAccountName: layout.accounts.cpu,
          containerConcurrency: CPU_CONCURRENCY + mistralJobs(layout),
          // More than the half hour that a task waits for its answer.
          timeoutSeconds: 3_600,
          containers: [
            {
              image: layout.images.api,
              // The arguments of the image's own tini.
              args: ['node', 'cpu-service/main.js'],
              ports: [{ name: 'http1', containerPort: PORT }],
              env: environmentOf(
                {
                  ...platformVariables(layout, backendList(layout)),
                  ...spendVariables(layout),
                  ...privateServiceVariables(layout.urls.cpu),
                  // ffmpeg reads recordings where they are. The disk of Cloud Run is memory.
                  STORE_MOUNT,
                },
                usesMistral(layout) ? { MISTRAL_API_KEY: secrets.mistralApiKey } : {},
              ),
              resources: { limits: limits(cpuService.vcpu, cpuService.memoryGib) },
              startupProbe: STARTUP_PROBE,
              volumeMounts: [{ name: 'store', mountPath: STORE_MOUNT }],
            },
          ],
          volumes: [bucketVolume('store', layout.bucket)],
        },
      },
      traffic: [{ latestRevision: true, percent: 100 }],
    },
  });
}

/** Tasks besides, of the queues for Mistral: an instance must have room for all of them, for it may be the only one. */
function mistralJobs({ environment: { backends } }: Layout): number {
  return backends.reduce((sum, { kind, maxRunning }) => (kind === 'voxtral' ? sum + maxRunning : sum), 0);
}
