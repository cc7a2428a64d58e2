import type { BackendOfKind } from '../../environment.ts';
import type { Layout } from '../../layout.ts';
import { gpuVariables, type Variables } from '../../service-variables.ts';

/** What a server of one's own has to know to be a backend of an environment. There is no secret among it. */
export function serverVariables(layout: Layout, backend: BackendOfKind<'server'>): Variables {
  // Which models a machine has, its own set-up decides.
  const { WHISPER_MODEL: _ofTheImage, ...variables } = gpuVariables(layout, backend);
  return { ...variables, HOST: '127.0.0.1', TASK_AUTH: 'verify', TASK_AUDIENCE: backend.url };
}
