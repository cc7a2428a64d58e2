import { randomUUID } from 'node:crypto';
import { ApiError, type Call, type CloudState, operation } from './cloud-state.ts';

export function artifactRegistry(call: Call, state: CloudState) {
  const { method, path, query, body } = call;
  if (path.includes('/operations/')) return operation({}, path.slice('/v1/'.length));
  const [, region, id, rest = ''] = /\/locations\/([^/]+)\/repositories(?:\/([^:/]+)(.*))?$/.exec(path) ?? [];
  const parent = `projects/${state.project}/locations/${region}/repositories/`;
  const done = (response: unknown) =>
    operation(response, `projects/${state.project}/locations/${region}/operations/${randomUUID()}`);
  if (id === undefined) {
    if (method === 'GET') return { repositories: state.list(parent) };
    const name = `${parent}${query.get('repositoryId')}`;
    return done(state.create(name, { ...body, name, format: 'DOCKER' }));
  }
  const name = `${parent}${id}`;
  const repository = state.get(name);
  if (rest.endsWith('IamPolicy')) return state.iam(call, name);
  if (rest.startsWith('/dockerImages')) return { dockerImages: state.list(`${name}/dockerImages/`) };
  if (method === 'PATCH') return Object.assign(repository, body, { name });
  if (method === 'DELETE') {
    for (const image of state.list(`${name}/dockerImages/`)) state.delete(image.name);
    return done(state.delete(name));
  }
  return repository;
}

/** Builds succeed at once, and what they push is there. */
export function cloudBuild({ method, path, body }: Call, state: CloudState) {
  const parent = /\/(?:v1|v2)\/(projects\/[^/]+(?:\/locations\/[^/]+)?)\/builds/.exec(path)?.[1];
  if (method === 'POST' && parent !== undefined) {
    const [, bucket] = [null, body.source.storageSource.bucket];
    if (!state.resources.has(`buckets/${bucket}`)) {
      throw new ApiError(400, 'INVALID_ARGUMENT', `the bucket ${bucket} of the sources does not exist`);
    }
    const id = randomUUID();
    const build = {
      ...body,
      id,
      projectId: state.project,
      name: `${parent}/builds/${id}`,
      status: 'SUCCESS',
      logUrl: 'https://console.test/',
    };
    state.builds.unshift(build);
    for (const image of body.images as string[]) pushImage(state, image);
    return { name: `operations/build/${state.project}/${id}`, metadata: { build }, done: false };
  }
  const id = /\/builds\/([^/]+)$/.exec(path)?.[1];
  if (id === undefined) return { builds: state.builds };
  return state.builds.find((build) => build.id === id) ?? {};
}

function pushImage(state: CloudState, image: string): void {
  const [, region, , repository, name, tag] =
    /^([^/]+)-docker\.pkg\.dev\/([^/]+)\/([^/]+)\/([^:]+):(.+)$/.exec(image) ?? [];
  const parent = `projects/${state.project}/locations/${region}/repositories/${repository}`;
  state.get(parent);
  // One digest for each tag but `latest`, which is another name for the newest.
  if (tag === 'latest') return;
  const full = `${parent}/dockerImages/${name}@sha256:${tag}`;
  state.resources.set(full, {
    name: full,
    uri: image.replace(/:[^:]*$/, `@sha256:${tag}`),
    tags: [tag, 'latest'],
    uploadTime: '2026-01-01T00:00:00Z',
  });
}

export function imageExists(state: CloudState, image: string): boolean {
  const [, region, repository, name, tag] =
    /^([^/]+)-docker\.pkg\.dev\/[^/]+\/([^/]+)\/([^:]+):(.+)$/.exec(image) ?? [];
  return state.resources.has(
    `projects/${state.project}/locations/${region}/repositories/${repository}/dockerImages/${name}@sha256:${tag}`,
  );
}
