import type { BackendOfKind, EnvironmentBackend } from '../environment.ts';
import { GPU_SHAPES, VERTEX_SHAPES } from '../environment.ts';
import type { Layout } from '../layout.ts';

/**
 * A backend as the services' list BACKENDS has it. The spec of a Vertex job is left empty: it holds the environment of
 * its container, which holds this list.
 */
export function backendEntry(layout: Layout, backend: EnvironmentBackend): Record<string, unknown> {
  const { name, kind, tier, maxRunning, minDurationSeconds, maxDurationSeconds, claimTimeoutSeconds } =
    backend;
  return {
    name,
    tier,
    kind,
    ...ofItsKind(layout, backend),
    max_running: maxRunning,
    ...(minDurationSeconds !== undefined && { min_duration_seconds: minDurationSeconds }),
    ...(maxDurationSeconds !== undefined && { max_duration_seconds: maxDurationSeconds }),
    ...(claimTimeoutSeconds !== undefined && { claim_timeout_seconds: claimTimeoutSeconds }),
  };
}

/** Where it is, and what an instance is, which core/costs/ prices. */
function ofItsKind(layout: Layout, backend: EnvironmentBackend): Record<string, unknown> {
  const { project, region } = layout;
  switch (backend.kind) {
    case 'cloud-run-service':
      return { url: layout.backendUrl(backend), shape: cloudRunShape(region, backend) };
    case 'server':
      return { url: backend.url };
    case 'cloud-run-job':
      return {
        job: `projects/${project.id}/locations/${region}/jobs/${layout.backendName(backend)}`,
        shape: cloudRunShape(region, backend),
      };
    case 'vertex-job': {
      const location = backend.location ?? region;
      return {
        job: `projects/${project.id}/locations/${location}`,
        spec: {},
        shape: {
          region: location,
          gpu: 'nvidia-l4',
          machine_type: backend.machineType,
          ...sizeOf(VERTEX_SHAPES[backend.machineType]),
          strategy: backend.strategy,
        },
      };
    }
    case 'voxtral':
      return backend.model === undefined ? {} : { model: backend.model };
  }
}

function cloudRunShape(
  region: string,
  { shape }: BackendOfKind<'cloud-run-service' | 'cloud-run-job'>,
): Record<string, unknown> {
  return { region, gpu: 'nvidia-l4', ...sizeOf(GPU_SHAPES[shape]) };
}

function sizeOf({ vcpu, memoryGib }: { vcpu: number; memoryGib: number }) {
  return { vcpu, memory_gib: memoryGib };
}
