import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { artifactRegistry, cloudBuild } from './artifact-api.ts';
import { Answer, ApiError, type Call, CloudState } from './cloud-state.ts';
import { iam } from './iam-api.ts';
import { cloudBilling, cloudQuotas, orgPolicy } from './limits-api.ts';
import { resourceManager, serviceUsage } from './project-api.ts';
import { run } from './run-api.ts';
import { secretManager } from './secret-api.ts';
import { storage } from './storage-api.ts';
import { cloudTasks } from './tasks-api.ts';

// The control planes of one Google Cloud project, for the real gcloud: as much state as it takes to see that a second
// deployment changes nothing and that nothing is left after one is taken down. gcloud reaches all of them by way of
// this process as its proxy, under host names that are nowhere else.

const APIS = {
  aiplatform: (call: Call, state: CloudState) => vertex(call, state),
  artifactregistry: artifactRegistry,
  cloudbilling: cloudBilling,
  cloudbuild: cloudBuild,
  cloudquotas: cloudQuotas,
  cloudresourcemanager: resourceManager,
  cloudtasks: cloudTasks,
  iam,
  orgpolicy: orgPolicy,
  run,
  secretmanager: secretManager,
  serviceusage: serviceUsage,
  storage,
} as const;

/** They answer before any API is enabled. */
const ALWAYS_THERE = new Set(['serviceusage', 'cloudresourcemanager']);

export interface Fault {
  matches(call: Call): boolean;
  status: number;
  code: string;
  message: string;
  /** The call does what it should, and only its answer is this one. */
  isDone?: boolean;
  /** Not only the first call that matches. */
  stays?: boolean;
}

export interface FakeGoogleCloud {
  /** For gcloud. */
  env: Record<string, string>;
  state: CloudState;
  /** Since the last time it was emptied. */
  calls: Call[];
  /** The first call that matches is answered so. */
  fail(fault: Fault): void;
  /** Those that nothing has met yet. */
  faults: Fault[];
  stop(): Promise<void>;
}

export async function startFakeGoogleCloud(project = 'my-project'): Promise<FakeGoogleCloud> {
  const state = new CloudState(project);
  const calls: Call[] = [];
  const faults: Fault[] = [];
  const server = createServer((request, response) => {
    handle(request, response, state, calls, faults).catch((error: unknown) => {
      response.statusCode = 500;
      response.end(JSON.stringify({ error: { code: 500, message: String(error), status: 'INTERNAL' } }));
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  const folder = await mkdtemp(join(tmpdir(), 'zeroscribe-gcloud-'));
  await writeFile(join(folder, 'token'), 'a-token-of-the-tests');
  return {
    state,
    calls,
    fail: (fault) => faults.push(fault),
    faults,
    env: {
      CLOUDSDK_CONFIG: folder,
      CLOUDSDK_AUTH_ACCESS_TOKEN_FILE: join(folder, 'token'),
      CLOUDSDK_PROXY_TYPE: 'http_no_tunnel',
      CLOUDSDK_PROXY_ADDRESS: '127.0.0.1',
      CLOUDSDK_PROXY_PORT: String(port),
      // Two processes copy nothing faster here than one.
      CLOUDSDK_STORAGE_PROCESS_COUNT: '1',
      ...Object.fromEntries(
        Object.keys(APIS).map((api) => [
          `CLOUDSDK_API_ENDPOINT_OVERRIDES_${api.toUpperCase()}`,
          `http://${api}.test/`,
        ]),
      ),
    },
    async stop() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
      await rm(folder, { recursive: true });
    },
  };
}

async function handle(
  request: IncomingMessage,
  response: ServerResponse,
  state: CloudState,
  calls: Call[],
  faults: Fault[],
): Promise<void> {
  const call = await read(request);
  calls.push(call);
  let answer: Answer;
  try {
    answer = answerTo(call, state, faults);
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    const { status, code, message } = error;
    answer = new Answer(status, { error: { code: status, message, status: code } });
  }
  response.writeHead(answer.status, { 'content-type': 'application/json', ...answer.headers });
  response.end(answer.body === undefined ? '' : JSON.stringify(answer.body));
}

function answerTo(call: Call, state: CloudState, faults: Fault[]): Answer {
  const at = faults.findIndex(({ matches }) => matches(call));
  const fault = faults[at];
  if (fault !== undefined && fault.stays !== true) faults.splice(at, 1);
  const failure = fault && new ApiError(fault.status, fault.code, fault.message);
  if (failure !== undefined && fault?.isDone !== true) throw failure;
  // Some have the region in front: europe-west1-run.test.
  const api = Object.keys(APIS).find(
    (name) => call.host === `${name}.test` || call.host.endsWith(`-${name}.test`),
  );
  if (api === undefined) throw new ApiError(404, 'NOT_FOUND', `nobody answers at ${call.host}`);
  if (!ALWAYS_THERE.has(api) && !state.enabledApis.has(`${api}.googleapis.com`)) {
    throw new ApiError(
      403,
      'PERMISSION_DENIED',
      `${api}.googleapis.com API has not been used in project ${state.projectNumber} before or it is disabled.`,
    );
  }
  const result: unknown = APIS[api as keyof typeof APIS](call, state);
  if (failure !== undefined) throw failure;
  return result instanceof Answer ? result : new Answer(200, result);
}

async function read(request: IncomingMessage): Promise<Call> {
  const chunks: Buffer[] = [];
  for await (const chunk of request) chunks.push(chunk);
  const raw = Buffer.concat(chunks);
  const text = raw.toString('utf8');
  const { hostname, pathname, searchParams } = new URL(request.url ?? '', 'http://nowhere.test');
  let body: unknown;
  try {
    body = text === '' ? undefined : JSON.parse(text);
  } catch {
    body = undefined;
  }
  return {
    method: request.method ?? '',
    host: hostname,
    path: pathname,
    query: searchParams,
    body,
    raw,
    headers: request.headers,
  };
}

function vertex({ method, path }: Call, state: CloudState) {
  const name = /\/(?:v1|v1beta1)\/(projects\/[^/]+\/locations\/[^/]+\/customJobs\/[^:]+):cancel$/.exec(
    path,
  )?.[1];
  if (method === 'POST' && name !== undefined) {
    Object.assign(state.get(name), { state: 'JOB_STATE_CANCELLED' });
    return {};
  }
  const parent = /\/(?:v1|v1beta1)\/(projects\/[^/]+\/locations\/[^/]+\/customJobs)$/.exec(path)?.[1];
  return { customJobs: state.list(`${parent}/`) };
}
