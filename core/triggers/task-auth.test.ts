import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import {
  type FakeCloudTasks,
  startFakeCloudTasks,
} from '../../tests/support/fake-cloud-tasks/fake-cloud-tasks.ts';
import { SIGNATURE_REMOVED } from '../../tests/support/fake-cloud-tasks/front-end.ts';
import { TokenIssuer } from '../../tests/support/fake-cloud-tasks/token-issuer.ts';
import { ConfigError } from '../environment.ts';
import { createTaskAuth, type TaskAuth } from './task-auth.ts';

const AUDIENCE = 'https://gpu.example';
const EMAIL = 'invoker@p.iam.gserviceaccount.com';
const CALLER = { email: EMAIL, audience: AUDIENCE };
const LOOPBACK = { host: '127.0.0.1', isBehindIam: false };

let fake: FakeCloudTasks;
let verify: TaskAuth;
let iam: TaskAuth;
const forger = new TokenIssuer();

beforeAll(async () => {
  fake = await startFakeCloudTasks();
  const caller = { audience: AUDIENCE, invokerEmail: EMAIL };
  verify = createTaskAuth({ mode: 'verify', ...caller, certsUrl: fake.certsUrl }, LOOPBACK);
  iam = createTaskAuth({ mode: 'iam', ...caller }, { host: '0.0.0.0', isBehindIam: true });
});
afterAll(() => fake.close());

const call = (token: string | undefined) => ({
  authorization: token === undefined ? undefined : `Bearer ${token}`,
  origin: undefined,
});
const issue = (changes: Record<string, unknown> = {}) => fake.issuer.issue(CALLER, changes);
const stripped = (token: string) => token.replace(/[^.]*$/, SIGNATURE_REMOVED);
const nowS = () => Math.floor(Date.now() / 1_000);

/** Refused by its claims, in both modes. */
const BAD_CLAIMS: [string, Record<string, unknown>, number][] = [
  ['another audience', { aud: 'https://other.example' }, 401],
  ['the audience of a page of the service', { aud: `${AUDIENCE}/tasks` }, 401],
  ['several audiences', { aud: [AUDIENCE, 'https://other.example'] }, 401],
  ['no audience', { aud: undefined }, 401],
  ['another account', { email: 'other@p.iam.gserviceaccount.com' }, 403],
  ['no account', { email: undefined }, 403],
  ['an unverified account', { email_verified: false }, 403],
  ['an account of which nothing is said', { email_verified: undefined }, 403],
  ['another issuer', { iss: 'https://accounts.example' }, 401],
  ['an end in the past', { exp: nowS() - 3_600, iat: nowS() - 7_200 }, 401],
  ['no end', { exp: undefined }, 401],
];

describe('TASK_AUTH=verify', () => {
  test('accepts a token of the invoker for this service', async () => {
    expect(await verify(call(issue()))).toBeUndefined();
  });

  test('accepts the same account when its configured address ends in a slash', async () => {
    const settings = { mode: 'verify', audience: `${AUDIENCE}/`, invokerEmail: EMAIL } as const;
    const auth = createTaskAuth({ ...settings, certsUrl: fake.certsUrl }, LOOPBACK);
    expect(await auth(call(issue()))).toBeUndefined();
  });

  test.each(BAD_CLAIMS)('refuses a token with %s', async (_, changes, status) => {
    expect(await verify(call(issue(changes)))).toMatchObject({ status });
  });

  test.each<[string, () => string | undefined]>([
    ['no token', () => undefined],
    ['an empty token', () => ''],
    ['something that is no token', () => 'a.b'],
    ['a token of garbage', () => 'YQ.YQ.YQ'],
    ['a token of null', () => `e30.${Buffer.from('null').toString('base64url')}.YQ`],
    ['a token of 100 kB', () => `${issue()}${'x'.repeat(100_000)}`],
    ['a forged signature', () => forger.issue(CALLER)],
    [
      'a forged signature with the key id of the issuer',
      () => forger.sign(claimsOf(issue()), { alg: 'RS256', kid: fake.issuer.keyId }),
    ],
    ['the signature taken off', () => stripped(issue())],
    [
      'the algorithm none',
      () =>
        `${fake.issuer.sign(claimsOf(issue()), { alg: 'none', kid: fake.issuer.keyId }).replace(/[^.]*$/, '')}YQ`,
    ],
    ['claims changed after signing', () => withClaims(forger.issue(CALLER, { sub: 'x' }), issue())],
    ['a life of two days', () => issue({ exp: nowS() + 2 * 86_400 })],
    ['a start in an hour', () => issue({ iat: nowS() + 3_600, exp: nowS() + 7_200 })],
  ])('refuses %s', async (_, token) => {
    expect(await verify(call(token()))).toMatchObject({ status: 401 });
  });

  test('refuses another scheme', async () => {
    const authorization = `Basic ${issue()}`;
    expect(await verify({ authorization, origin: undefined })).toMatchObject({ status: 401 });
  });

  test('refuses everybody with 500 while the keys cannot be fetched', async () => {
    const certsUrl = `${fake.url}/nothing-here`;
    const settings = { mode: 'verify', audience: AUDIENCE, invokerEmail: EMAIL, certsUrl } as const;
    const auth = createTaskAuth(settings, LOOPBACK);
    expect(await auth(call(issue()))).toMatchObject({ status: 500 });
  });

  test('says nothing of the token', async () => {
    const tokens = [
      issue({ aud: 'https://other.example' }),
      forger.issue(CALLER),
      'YQ.YQ.YQ',
      issue({ exp: 1 }),
    ];
    for (const token of tokens) {
      const said = JSON.stringify(await verify(call(token)));
      for (const part of [...token.split('.'), 'other.example', EMAIL]) expect(said).not.toContain(part);
    }
  });
});

describe('TASK_AUTH=iam', () => {
  test('accepts a token whose signature the platform has taken off after checking it', async () => {
    expect(await iam(call(stripped(issue())))).toBeUndefined();
  });

  test.each(BAD_CLAIMS)('refuses a token with %s', async (_, changes, status) => {
    expect(await iam(call(stripped(issue(changes))))).toMatchObject({ status });
  });

  test('refuses who has none', async () => {
    expect(await iam(call(undefined))).toMatchObject({ status: 401 });
  });
});

describe('TASK_AUTH=none', () => {
  const none = createTaskAuth({ mode: 'none' }, LOOPBACK);

  test('accepts programs of the machine, not web pages', async () => {
    expect(await none(call(undefined))).toBeUndefined();
    expect(await none({ authorization: undefined, origin: 'https://evil.example' })).toMatchObject({
      status: 403,
    });
  });
});

describe('a service does not start', () => {
  const caller = { audience: AUDIENCE, invokerEmail: EMAIL };
  const outside = { host: '0.0.0.0', isBehindIam: false };
  test.each<[string, () => unknown]>([
    ['without checks outside loopback', () => createTaskAuth({ mode: 'none' }, outside)],
    [
      'without checks on Cloud Run',
      () => createTaskAuth({ mode: 'none' }, { ...outside, isBehindIam: true }),
    ],
    ['trusting a platform that is not there', () => createTaskAuth({ mode: 'iam', ...caller }, outside)],
    ['without an audience', () => createTaskAuth({ mode: 'verify', ...caller, audience: '' }, outside)],
    ['without an account', () => createTaskAuth({ mode: 'iam', ...caller, invokerEmail: '' }, LOOPBACK)],
    [
      'with a test issuer outside loopback',
      () => createTaskAuth({ mode: 'verify', ...caller, certsUrl: 'http://127.0.0.1:1/' }, outside),
    ],
    [
      'with a test issuer that is elsewhere',
      () => createTaskAuth({ mode: 'verify', ...caller, certsUrl: 'https://evil.example/' }, LOOPBACK),
    ],
  ])('%s', (_, create) => {
    expect(create).toThrow(ConfigError);
  });
});

function claimsOf(token: string): object {
  return JSON.parse(Buffer.from(token.split('.')[1] ?? '', 'base64url').toString());
}

function withClaims(of: string, token: string): string {
  const [header, , signature] = token.split('.');
  return [header, of.split('.')[1], signature].join('.');
}
