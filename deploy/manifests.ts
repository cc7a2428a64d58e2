import { gpuJobManifest } from './backends/cloud-run-job/manifest.ts';
import { gpuServiceManifest } from './backends/cloud-run-service/manifest.ts';
import type { Manifest } from './knative.ts';
import type { Layout } from './layout.ts';
import { apiManifest } from './services/api.ts';
import { cpuServiceManifest } from './services/cpu-service.ts';

/** All services and jobs, callees before their callers. */
export function manifests(layout: Layout): Manifest[] {
  const backends = layout.environment.backends.flatMap((backend) => {
    if (backend.kind === 'cloud-run-service') return [gpuServiceManifest(layout, backend)];
    if (backend.kind === 'cloud-run-job') return [gpuJobManifest(layout, backend)];
    return [];
  });
  return [...backends, cpuServiceManifest(layout), apiManifest(layout)];
}
