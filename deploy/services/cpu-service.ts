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
import { platformVariables, privateServiceVariables } from '../service-variables.ts';

/** Tasks at a time of one instance. The service itself takes no more. */
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
          containerConcurrency: CPU_CONCURRENCY,
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
                  ...privateServiceVariables(layout.urls.cpu),
                  // ffmpeg reads recordings where they are. The disk of Cloud Run is memory.
                  STORE_MOUNT,
                },
                { MISTRAL_API_KEY: secrets.mistralApiKey },
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
