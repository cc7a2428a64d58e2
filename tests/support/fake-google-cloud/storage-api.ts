import { Answer, type Call, type CloudState, notFound } from './cloud-state.ts';

/** Buckets, and as much of objects as a build's sources and the emptying of a bucket need. */
export function storage(call: Call, state: CloudState) {
  const { method, path, body } = call;
  const upload = /^\/(?:resumable\/)?upload\/storage\/v1\/b\/([^/]+)\/o$/.exec(path)?.[1];
  if (upload !== undefined) return uploadObject(call, state, upload);
  const [, bucketName, rest = ''] = /^\/storage\/v1\/b(?:\/([^/]+)(.*))?$/.exec(path) ?? [];
  if (bucketName === undefined) {
    if (method === 'GET') return { items: state.list('buckets/') };
    const bucket = {
      kind: 'storage#bucket',
      // As Google sets it where nothing is said.
      softDeletePolicy: { retentionDurationSeconds: '604800' },
      ...body,
      storageClass: 'STANDARD',
      metageneration: '1',
      timeCreated: '2026-01-01T00:00:00Z',
    };
    return state.create(`buckets/${body.name}`, bucket);
  }
  const name = `buckets/${bucketName}`;
  if (!state.resources.has(name)) throw notFound(`The specified bucket ${bucketName}`);
  if (rest === '/iam') return method === 'PUT' ? state.setPolicy(name, body) : state.policy(name);
  if (rest === '/o') return { items: state.list(`${name}/objects/`), prefixes: [] };
  if (rest.startsWith('/o/')) {
    const object = `${name}/objects/${encodeURIComponent(decodeURIComponent(rest.slice(3)))}`;
    if (method === 'DELETE') {
      state.delete(object);
      return new Answer(204, undefined);
    }
    return state.get(object);
  }
  if (method === 'PATCH') {
    const bucket = state.get(name);
    for (const [key, value] of Object.entries(body)) {
      if (value === null) delete bucket[key];
      else if (key === 'labels' || key === 'iamConfiguration')
        bucket[key] = { ...bucket[key], ...(value as object) };
      else bucket[key] = value;
    }
    return bucket;
  }
  if (method === 'DELETE') {
    if (state.list(`${name}/objects/`).length > 0) {
      return new Answer(409, {
        error: { code: 409, message: 'The bucket you tried to delete is not empty.' },
      });
    }
    state.delete(name);
    return new Answer(204, undefined);
  }
  return state.get(name);
}

/** `uploadType=multipart`: the name is in the address, what is said of the object in the first part. The bytes go. */
function uploadObject({ query, raw }: Call, state: CloudState, bucket: string) {
  if (!state.resources.has(`buckets/${bucket}`)) throw notFound(`The specified bucket ${bucket}`);
  const said = /\n\r?\n(\{.*?\})\r?\n--/s.exec(raw.toString('latin1'))?.[1];
  const name = query.get('name') ?? '';
  const object = {
    ...JSON.parse(said ?? '{}'),
    kind: 'storage#object',
    name,
    bucket,
    generation: '1',
    metageneration: '1',
    timeCreated: '2026-01-01T00:00:00Z',
    updated: '2026-01-01T00:00:00Z',
  };
  state.resources.set(`buckets/${bucket}/objects/${encodeURIComponent(name)}`, object);
  return object;
}
