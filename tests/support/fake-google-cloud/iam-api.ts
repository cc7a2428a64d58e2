import { ApiError, accountName, type Call, type CloudState, notFound } from './cloud-state.ts';

/** Service accounts and roles of one's own. */
export function iam(call: Call, state: CloudState) {
  const { path } = call;
  // gcloud warns of permissions that are still being tested; none is.
  if (path.endsWith(':queryTestablePermissions')) return {};
  if (path.includes('/roles')) return roles(call, state);
  const email = /\/serviceAccounts\/([^:/]+)/.exec(path)?.[1];
  if (email === undefined) return accounts(call, state);
  const name = accountName(decodeURIComponent(email));
  if (path.endsWith('IamPolicy')) {
    state.get(name);
    return state.iam(call, name);
  }
  if (call.method === 'DELETE') {
    state.delete(name);
    return {};
  }
  return state.get(name);
}

function accounts({ method, body }: Call, state: CloudState) {
  if (method === 'GET') return { accounts: state.list(accountName('')) };
  const email = `${body.accountId}@${state.project}.iam.gserviceaccount.com`;
  if (!/^[a-z][a-z0-9-]{4,28}[a-z0-9]$/.test(body.accountId)) {
    throw new ApiError(
      400,
      'INVALID_ARGUMENT',
      `The account ID "${body.accountId}" does not have a length between 6 and 30.`,
    );
  }
  return state.create(accountName(email), {
    ...body.serviceAccount,
    email,
    name: `projects/${state.project}/serviceAccounts/${email}`,
    uniqueId: String(100_000 + state.resources.size),
  });
}

function roles({ method, path, body }: Call, state: CloudState) {
  const id = /\/roles\/([^:/?]+)/.exec(path)?.[1] ?? body?.roleId;
  const name = `projects/${state.project}/roles/${id}`;
  if (path.endsWith(':undelete')) return Object.assign(state.get(name), { deleted: false });
  switch (method) {
    case 'POST': {
      const existing = state.resources.get(name);
      if (existing?.deleted) {
        throw new ApiError(
          400,
          'FAILED_PRECONDITION',
          `You can't create a role_id (${id}) which has been marked for deletion.`,
        );
      }
      return state.create(name, { ...body.role, name });
    }
    case 'PATCH':
      return Object.assign(state.get(name), body, { name });
    case 'DELETE':
      // It stays for a week, and its name for longer.
      return Object.assign(state.get(name), { deleted: true });
    default:
      if (!state.resources.has(name)) throw notFound(name);
      return state.get(name);
  }
}
