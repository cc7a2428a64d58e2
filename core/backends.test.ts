import { expect, test } from '@jest/globals';
import { type Backend, backendUrls, claimTimeoutMs, isJobBackend, parseBackends } from './backends.ts';

const service = { name: 'gpu', tier: 'premium', kind: 'cloud-run-service', url: 'https://gpu.example' };
const job = { name: 'job', tier: 'premium', kind: 'cloud-run-job', job: 'projects/p/locations/l/jobs/j' };
const vertex = {
  name: 'vertex',
  tier: 'premium',
  kind: 'vertex-job',
  job: 'projects/p/locations/l',
  spec: { workerPoolSpecs: [{ containerSpec: { imageUri: 'gpu' }, replicaCount: '1' }], serviceAccount: 'x' },
};
const parse = (...list: unknown[]): Backend[] => parseBackends(JSON.stringify(list));
const minutesOf = (backend: unknown): number => claimTimeoutMs(parse(backend)[0] as Backend) / 60_000;

test('keeps the order, and everything of a spec', () => {
  const voxtral = { name: 'voxtral', tier: 'standard', kind: 'voxtral', model: 'voxtral-mini-2602' };
  const backends = parse(vertex, service, job, voxtral);
  expect(backends).toEqual([vertex, service, job, voxtral]);
  expect(backends.filter(isJobBackend).map(({ name }) => name)).toEqual(['vertex', 'job']);
  expect(backendUrls(backends, { cpuService: 'https://cpu.example' })).toEqual({
    gpu: 'https://gpu.example',
    voxtral: 'https://cpu.example',
  });
});

test.each<[string, unknown[]]>([
  ['0.url: is needed', [{ ...service, url: undefined }]],
  ['0.job: must be projects/P/locations/L/jobs/J', [{ ...job, job: 'j' }]],
  ['0.job: must be projects/P/locations/L', [{ ...vertex, job: 'j' }]],
  ['0.spec.workerPoolSpecs: must have one worker pool', [{ ...vertex, spec: { workerPoolSpecs: [] } }]],
  [
    '0.spec.workerPoolSpecs.0.containerSpec: is needed',
    [{ ...vertex, spec: { workerPoolSpecs: [{ pythonPackageSpec: {} }] } }],
  ],
  ['0: there is no urls', [{ ...service, urls: 'x' }]],
  ['has two backends with the name gpu', [service, service]],
  ['must name a backend', []],
])('says %j', (message, list) => {
  expect(() => parse(...list)).toThrow(message);
});

test('waits a while for each kind, and as long for flex-start as it may look for a machine on top', () => {
  expect(minutesOf(service)).toBe(15);
  expect(minutesOf(job)).toBe(15);
  expect(minutesOf(vertex)).toBe(30);
  expect(minutesOf({ ...vertex, claim_timeout_seconds: 120 })).toBe(2);
  const flex = (scheduling: object) => ({ ...vertex, spec: { ...vertex.spec, scheduling } });
  expect(minutesOf(flex({ strategy: 'SPOT' }))).toBe(30);
  expect(minutesOf(flex({ strategy: 'FLEX_START' }))).toBe(30 + 24 * 60);
  expect(minutesOf(flex({ strategy: 'FLEX_START', maxWaitDuration: '3600s' }))).toBe(90);
  expect(minutesOf(flex({ strategy: 'FLEX_START', maxWaitDuration: '0s' }))).toBe(Number.POSITIVE_INFINITY);
});
