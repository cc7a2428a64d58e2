import { ApiError, type Call, type CloudState, operation } from './cloud-state.ts';

/** serviceusage and cloudresourcemanager: which APIs the project has, its number and its policy. */
export function serviceUsage({ method, path, body }: Call, state: CloudState) {
  if (method === 'GET' && /\/services$/.test(path)) {
    const services = [...state.enabledApis].map((name) => ({
      name: `projects/${state.projectNumber}/services/${name}`,
      config: { name },
      state: 'ENABLED',
    }));
    return { services };
  }
  if (path.includes('/operations/')) return operation({}, path.slice('/v1/'.length));
  const one = /\/services\/([^:/]+):enable$/.exec(path)?.[1];
  const enabled = one === undefined ? (body.serviceIds as string[]) : [one];
  for (const api of enabled) state.enabledApis.add(api);
  return operation({}, 'operations/enable');
}

export function resourceManager({ method, path, body }: Call, state: CloudState) {
  const [, , , id] = path.replace(/:.*/, '').split('/');
  if (id !== state.project) {
    throw new ApiError(
      403,
      'PERMISSION_DENIED',
      `The caller does not have permission on project ${id}, or it may not exist.`,
    );
  }
  if (method === 'POST') return state.iam({ path, body } as Call, `projects/${id}`);
  return { projectId: state.project, projectNumber: state.projectNumber, lifecycleState: 'ACTIVE' };
}
