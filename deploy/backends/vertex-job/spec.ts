import type { BackendOfKind } from '../../environment.ts';
import type { Layout } from '../../layout.ts';
import { gpuVariables, runVariables } from '../../service-variables.ts';

/** Room for the image beside what a job unpacks. */
const DISK_GIB = 100;

/**
 * The `jobSpec` of every custom job (aiplatform v1 CustomJobSpec). There is nothing to deploy at Vertex AI: `start-run`
 * makes a job of this and adds the task.
 */
export function vertexSpec(layout: Layout, backend: BackendOfKind<'vertex-job'>): Record<string, unknown> {
  const { machineType, strategy, timeoutSeconds, maxWaitSeconds } = backend;
  return {
    workerPoolSpecs: [
      {
        machineSpec: { machineType, acceleratorType: 'NVIDIA_L4', acceleratorCount: 1 },
        replicaCount: '1',
        diskSpec: { bootDiskType: 'pd-ssd', bootDiskSizeGb: DISK_GIB },
        containerSpec: {
          imageUri: layout.images.gpu,
          env: Object.entries({ ...gpuVariables(layout, backend), ...runVariables(timeoutSeconds) }).map(
            ([name, value]) => ({ name, value }),
          ),
        },
      },
    ],
    scheduling: {
      strategy,
      timeout: `${timeoutSeconds}s`,
      ...(strategy === 'FLEX_START' && { maxWaitDuration: `${maxWaitSeconds}s` }),
      // A machine that was taken away would start the task again by itself; the job's record decides that.
      restartJobOnWorkerRestart: false,
      disableRetries: true,
    },
    serviceAccount: layout.accounts.gpu,
  };
}
