import { type BackendOfKind, GPU_SHAPES } from '../../environment.ts';
import {
  environmentOf,
  GPU_NODE,
  labelled,
  limits,
  type Manifest,
  PORT,
  PRIVATE_SERVICE_ANNOTATIONS,
  STARTUP_PROBE,
} from '../../knative.ts';
import { BACKEND_LABEL, type Layout } from '../../layout.ts';
import { gpuVariables, privateServiceVariables } from '../../service-variables.ts';

export function gpuServiceManifest(layout: Layout, backend: BackendOfKind<'cloud-run-service'>): Manifest {
  const { vcpu, memoryGib } = GPU_SHAPES[backend.shape];
  const manifest: Manifest = {
    apiVersion: 'serving.knative.dev/v1',
    kind: 'Service',
    metadata: {
      name: layout.backendName(backend),
      labels: {},
      annotations: { ...PRIVATE_SERVICE_ANNOTATIONS },
    },
    spec: {
      template: {
        metadata: {
          annotations: {
            'autoscaling.knative.dev/minScale': '0',
            'autoscaling.knative.dev/maxScale': String(backend.maxRunning),
            'run.googleapis.com/execution-environment': 'gen2',
            // A GPU is billed by the instance, not by the request.
            'run.googleapis.com/cpu-throttling': 'false',
            'run.googleapis.com/startup-cpu-boost': 'true',
            // With redundancy the quota of a new project is 0. It belongs here, not to the service's own annotations.
            'run.googleapis.com/gpu-zonal-redundancy-disabled': 'true',
          },
        },
        spec: {
          serviceAccountName: layout.accounts.gpu,
          // One GPU, one job.
          containerConcurrency: 1,
          timeoutSeconds: 3_600,
          nodeSelector: GPU_NODE,
          containers: [
            {
              image: layout.images.gpu,
              ports: [{ name: 'http1', containerPort: PORT }],
              env: environmentOf({
                ...gpuVariables(layout, backend),
                ...privateServiceVariables(layout.backendUrl(backend)),
              }),
              resources: { limits: limits(vcpu, memoryGib, 1) },
              startupProbe: STARTUP_PROBE,
            },
          ],
        },
      },
      traffic: [{ latestRevision: true, percent: 100 }],
    },
  };
  return labelled(layout, manifest, { [BACKEND_LABEL]: backend.name });
}
