import type { Layout } from '../layout.ts';
import { backendEntry } from './backend-entry.ts';
import { vertexSpec } from './vertex-job/spec.ts';

/** The whole list BACKENDS, for the services that choose and start backends. */
export function backendList(layout: Layout): Record<string, unknown>[] {
  return layout.environment.backends.map((backend) => ({
    ...backendEntry(layout, backend),
    ...(backend.kind === 'vertex-job' && { spec: vertexSpec(layout, backend) }),
  }));
}
