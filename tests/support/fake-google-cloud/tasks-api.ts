import { ApiError, alreadyExists, type Call, type CloudState } from './cloud-state.ts';

export function cloudTasks(call: Call, state: CloudState) {
  const { method, path, body } = call;
  const [, parent, id, rest = ''] =
    /^\/v2(?:beta3)?\/(projects\/[^/]+\/locations\/[^/]+\/queues)(?:\/([^:/]+)(.*))?$/.exec(path) ?? [];
  if (id === undefined) {
    if (method === 'GET') return { queues: state.list(`${parent}/`) };
    return createQueue(body, state);
  }
  const name = `${parent}/${id}`;
  const queue = state.get(name);
  if (rest.endsWith('IamPolicy')) return state.iam(call, name);
  if (rest === '/tasks') return { tasks: state.list(`${name}/tasks/`) };
  if (method === 'PATCH') {
    const { rateLimits, retryConfig } = body;
    Object.assign(queue.rateLimits, rateLimits);
    Object.assign(queue.retryConfig, retryConfig);
    return queue;
  }
  if (method === 'DELETE') {
    state.buriedQueues.add(name);
    state.delete(name);
    return {};
  }
  return queue;
}

function createQueue({ name, rateLimits, retryConfig }: Call['body'], state: CloudState) {
  if (state.resources.has(name)) throw alreadyExists('Queue');
  if (state.buriedQueues.has(name)) {
    throw new ApiError(
      400,
      'FAILED_PRECONDITION',
      'The queue cannot be created because a queue with this name existed too recently.',
    );
  }
  return state.create(name, {
    name,
    state: 'RUNNING',
    rateLimits: {
      maxDispatchesPerSecond: 500,
      maxBurstSize: 100,
      maxConcurrentDispatches: 1_000,
      ...rateLimits,
    },
    retryConfig: {
      maxAttempts: 100,
      minBackoff: '0.100s',
      maxBackoff: '3600s',
      maxDoublings: 16,
      ...retryConfig,
    },
  });
}
