import { type BackendOfKind, GPU_SHAPES } from '../../environment.ts';
import { environmentOf, GPU_NODE, labelled, limits, type Manifest } from '../../knative.ts';
import { BACKEND_LABEL, type Layout } from '../../layout.ts';
import { gpuVariables, runVariables } from '../../service-variables.ts';

/** `start-run` runs it with the task in RUN_TASK; by itself it does nothing. */
export function gpuJobManifest(layout: Layout, backend: BackendOfKind<'cloud-run-job'>): Manifest {
  const { vcpu, memoryGib } = GPU_SHAPES[backend.shape];
  const manifest: Manifest = {
    apiVersion: 'run.googleapis.com/v1',
    kind: 'Job',
    metadata: { name: layout.backendName(backend), labels: {}, annotations: {} },
    spec: {
      // Of each execution.
      template: {
        metadata: {
          annotations: {
            'run.googleapis.com/execution-environment': 'gen2',
            // Jobs have GPUs without zonal redundancy only.
            'run.googleapis.com/gpu-zonal-redundancy-disabled': 'true',
          },
        },
        spec: {
          parallelism: 1,
          taskCount: 1,
          // Of each task.
          template: {
            spec: {
              serviceAccountName: layout.accounts.gpu,
              // The job's record counts attempts, and reconcile starts the next.
              maxRetries: 0,
              timeoutSeconds: String(backend.taskTimeoutSeconds),
              nodeSelector: GPU_NODE,
              containers: [
                {
                  image: layout.images.gpu,
                  env: environmentOf({
                    ...gpuVariables(layout, backend),
                    ...runVariables(backend.taskTimeoutSeconds),
                  }),
                  resources: { limits: limits(vcpu, memoryGib, 1) },
                },
              ],
            },
          },
        },
      },
    },
  };
  return labelled(layout, manifest, { [BACKEND_LABEL]: backend.name });
}
