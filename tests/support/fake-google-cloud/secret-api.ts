import type { Call, CloudState } from './cloud-state.ts';

export function secretManager(call: Call, state: CloudState) {
  const { method, path, query, body } = call;
  const parent = `projects/${state.project}/secrets/`;
  const [, id, rest = ''] = /\/secrets\/([^:/]+)(.*)$/.exec(path) ?? [];
  if (id === undefined) {
    if (method === 'GET') return { secrets: state.list(parent) };
    const name = `${parent}${query.get('secretId')}`;
    return state.create(name, { ...body, name });
  }
  const name = `${parent}${id}`;
  state.get(name);
  if (rest.endsWith('IamPolicy')) return state.iam(call, name);
  if (rest === ':addVersion') {
    const version = `${name}/versions/${state.list(`${name}/versions/`).length + 1}`;
    return state.create(version, {
      name: version,
      state: 'ENABLED',
      payload: body.payload,
      clientSpecifiedPayloadChecksum: true,
    });
  }
  if (rest === '/versions') {
    return { versions: state.list(`${name}/versions/`).map(({ payload: _, ...version }) => version) };
  }
  if (/^\/versions\/[^/]+:access$/.test(rest)) {
    const { name: version, payload } = state.list(`${name}/versions/`).at(-1);
    return { name: version, payload };
  }
  if (method === 'DELETE') {
    for (const version of state.list(`${name}/versions/`)) state.delete(version.name);
    state.delete(name);
    return {};
  }
  return state.get(name);
}
