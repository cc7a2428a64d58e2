import { imageExists } from './artifact-api.ts';
import { ApiError, accountName, type Call, type CloudState, type Json } from './cloud-state.ts';

/** Cloud Run's v1 API, which `gcloud run … replace` speaks. What is deployed is ready at once, or refused. */
export function run(call: Call, state: CloudState) {
  const { method, path, body } = call;
  const policy = /^\/v1\/(projects\/[^/]+\/locations\/[^/]+\/(?:services|jobs)\/[^:]+):/.exec(path)?.[1];
  if (policy !== undefined) {
    const name = policy.replace(/^projects\/[^/]+\/locations\/[^/]+\//, '');
    state.get(name);
    return state.iam(call, name);
  }
  const [, kind = '', id] = /\/namespaces\/[^/]+\/([a-z]+)(?:\/([^/]+))?$/.exec(path) ?? [];
  if (kind === 'executions') return { metadata: {}, items: state.list('executions/') };
  if (kind !== 'services' && kind !== 'jobs') return { metadata: {}, items: [] };
  if (id === undefined) {
    if (method === 'GET') return { metadata: {}, items: state.list(`${kind}/`) };
    return put(state, kind, body, call.query.has('dryRun'));
  }
  const name = `${kind}/${id}`;
  const found = state.get(name);
  if (method === 'PUT') return put(state, kind, body, call.query.has('dryRun'));
  if (method === 'DELETE') {
    state.delete(name);
    return { status: 'Success' };
  }
  return found;
}

function put(state: CloudState, kind: 'services' | 'jobs', body: Json, isDry: boolean): Json {
  const { name } = body.metadata;
  const key = `${kind}/${name}`;
  const pod = kind === 'jobs' ? body.spec.template.spec.template.spec : body.spec.template.spec;
  const [container] = pod.containers;
  const refuse = (message: string) => {
    throw new ApiError(400, 'INVALID_ARGUMENT', message);
  };
  if (!state.resources.has(accountName(pod.serviceAccountName))) {
    refuse(`Service account ${pod.serviceAccountName} does not exist.`);
  }
  if (!imageExists(state, container.image)) refuse(`Image '${container.image}' not found.`);
  for (const { valueFrom } of container.env ?? []) {
    const secret = valueFrom?.secretKeyRef?.name;
    if (
      secret !== undefined &&
      state.list(`projects/${state.project}/secrets/${secret}/versions/`).length === 0
    ) {
      refuse(`Secret projects/${state.projectNumber}/secrets/${secret}/versions/latest was not found`);
    }
  }
  const before = state.resources.get(key);
  const generation = (before?.metadata.generation ?? 0) + 1;
  const url = `https://${name}-${state.projectNumber}.europe-west1.run.app`;
  const resource = {
    ...body,
    metadata: {
      ...body.metadata,
      namespace: state.projectNumber,
      generation,
      resourceVersion: `v${generation}`,
      uid: key,
      creationTimestamp: '2026-01-01T00:00:00Z',
      labels: { ...body.metadata.labels, 'cloud.googleapis.com/location': 'europe-west1' },
      annotations: { ...body.metadata.annotations, 'serving.knative.dev/creator': 'me@example.com' },
    },
    status: {
      observedGeneration: generation,
      conditions: ['Ready', 'ConfigurationsReady', 'RoutesReady'].map((type) => ({ type, status: 'True' })),
      ...(kind === 'services' && {
        url,
        address: { url },
        latestReadyRevisionName: `${name}-0000${generation}`,
        latestCreatedRevisionName: `${name}-0000${generation}`,
        traffic: [{ revisionName: `${name}-0000${generation}`, percent: 100, latestRevision: true }],
      }),
    },
  };
  if (!isDry) state.resources.set(key, resource);
  return resource;
}
