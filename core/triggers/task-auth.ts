import type { OAuth2Client } from 'google-auth-library';
import { ConfigError } from '../environment.ts';
import { isLoopback } from '../loopback.ts';

export type TaskAuthSettings =
  | { mode: 'none' }
  /** The platform has checked the token before the call reaches the service (a private Cloud Run service). */
  | { mode: 'iam'; audience: string; invokerEmail: string }
  /** Everybody reaches the service. `certsUrl`: the keys of an issuer made for tests. */
  | { mode: 'verify'; audience: string; invokerEmail: string; certsUrl?: string | undefined };

/** Where the service listens, and what stands before it. */
export interface Exposure {
  host: string;
  /** Whether this is a Cloud Run service, which lets through only who has its invoker role. */
  isBehindIam: boolean;
}

/** Why a call is not accepted, in words that hold nothing of the token. */
export interface Refusal {
  /** 500: nothing was wrong with the call as far as is known. */
  status: 401 | 403 | 500;
  reason: string;
}

export interface TaskCall {
  authorization: string | undefined;
  /** Browsers send it with every POST, Cloud Tasks never does. */
  origin: string | undefined;
}

/** @returns nothing when the call is accepted. Never rejects. */
export type TaskAuth = (call: TaskCall) => Promise<Refusal | undefined>;

/** @throws {ConfigError} when strangers would get in */
export function createTaskAuth(settings: TaskAuthSettings, exposure: Exposure): TaskAuth {
  const isLocal = isLoopback(exposure.host);
  switch (settings.mode) {
    case 'none':
      if (!isLocal) throw new ConfigError('TASK_AUTH=none is for loopback only. Set it to iam or verify.');
      return async ({ origin }) =>
        origin === undefined ? undefined : { status: 403, reason: 'it comes from a web page' };
    case 'iam':
      requireCaller(settings);
      if (!isLocal && !exposure.isBehindIam) {
        throw new ConfigError(
          'TASK_AUTH=iam trusts Cloud Run to check tokens, and this is not Cloud Run. Set it to verify.',
        );
      }
      return async ({ authorization }) => checkClaims(readToken(authorization), settings);
    case 'verify':
      requireCaller(settings);
      if (settings.certsUrl !== undefined && !(isLocal && isLoopback(hostnameOf(settings.certsUrl)))) {
        throw new ConfigError('TASK_OIDC_CERTS_URL is for tests: issuer and service must be on loopback.');
      }
      return verifier(settings);
  }
}

interface Caller {
  audience: string;
  invokerEmail: string;
}

/** A check against nothing accepts everything. */
function requireCaller({ audience, invokerEmail }: Caller): void {
  if (audience === '') throw new ConfigError('TASK_AUDIENCE is needed, the address of this service.');
  if (invokerEmail === '') throw new ConfigError('TASK_INVOKER_EMAIL is needed, the account that calls.');
}

const ISSUERS = ['https://accounts.google.com', 'accounts.google.com'];
const CLOCK_SKEW_S = 300;
const MAX_TOKEN_LENGTH = 8_192;
const CERTS_TIMEOUT_MS = 10_000;

interface Token {
  text: string;
  claims: Record<string, unknown>;
}

function readToken(authorization: string | undefined): Token | Refusal {
  const text = /^Bearer +([\w-]+\.[\w-]+\.[\w-]+) *$/i.exec(authorization ?? '')?.[1];
  if (text === undefined || text.length > MAX_TOKEN_LENGTH) {
    return {
      status: 401,
      reason: authorization === undefined ? 'it has no token' : 'its token is malformed',
    };
  }
  try {
    const claims: unknown = JSON.parse(Buffer.from(text.split('.')[1] ?? '', 'base64url').toString());
    if (typeof claims === 'object' && claims !== null) return { text, claims: { ...claims } };
  } catch {
    // As below.
  }
  return { status: 401, reason: 'its token is malformed' };
}

/** What the token says, whoever wrote it. */
function checkClaims(token: Token | Refusal, { audience, invokerEmail }: Caller): Refusal | undefined {
  if ('reason' in token) return token;
  const { iss, aud, exp, email, email_verified } = token.claims;
  const nowS = Date.now() / 1_000;
  if (typeof iss !== 'string' || !ISSUERS.includes(iss)) {
    return { status: 401, reason: 'its token is of another issuer' };
  }
  if (aud !== audience.replace(/\/+$/, ''))
    return { status: 401, reason: 'its token is for another audience' };
  if (typeof exp !== 'number' || exp + CLOCK_SKEW_S < nowS) {
    return { status: 401, reason: 'its token has expired' };
  }
  if (email !== invokerEmail) return { status: 403, reason: 'its token is of another account' };
  if (email_verified !== true) return { status: 403, reason: 'the account of its token is not verified' };
  return undefined;
}

function verifier(settings: Caller & { certsUrl?: string | undefined }): TaskAuth {
  let opened: Promise<OAuth2Client> | undefined;
  return async ({ authorization }) => {
    // Before anything is fetched: what is refused for its claims alone costs nothing.
    const token = readToken(authorization);
    if ('reason' in token) return token;
    const refusal = checkClaims(token, settings);
    if (refusal !== undefined) return refusal;

    opened ??= openVerifier(settings.certsUrl);
    const client = await opened;
    // The library's messages quote the token, so none of them is kept.
    const certs = await client.getFederatedSignonCertsAsync().catch(() => undefined);
    if (certs === undefined) return { status: 500, reason: 'the keys of the issuer cannot be fetched' };
    const audience = settings.audience.replace(/\/+$/, '');
    const ticket = await client
      .verifySignedJwtWithCertsAsync(token.text, certs.certs, audience, ISSUERS)
      .catch(() => undefined);
    // Again, and now of what was signed.
    const claims = ticket?.getPayload();
    if (claims === undefined) return { status: 401, reason: 'its token has no valid signature' };
    return checkClaims({ text: token.text, claims: { ...claims } }, settings);
  };
}

/** The library takes a tenth of a second to load, which would hold up the start of a service. */
async function openVerifier(certsUrl: string | undefined): Promise<OAuth2Client> {
  const { OAuth2Client } = await import('google-auth-library');
  return new OAuth2Client({
    transporterOptions: { timeout: CERTS_TIMEOUT_MS },
    ...(certsUrl !== undefined && { endpoints: { oauth2FederatedSignonPemCertsUrl: certsUrl } }),
  });
}

function hostnameOf(url: string): string {
  return URL.canParse(url) ? new URL(url).hostname : '';
}
