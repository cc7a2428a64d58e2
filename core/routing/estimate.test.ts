import { describe, expect, test } from '@jest/globals';
import { ASSUMED, platforms } from '../costs/platform-models.ts';
import { PRICES } from '../costs/prices.ts';
import { type Candidate, chooseCheapest } from './estimate.ts';
import type { Demand } from './expect-company.ts';
import { AT_REST, type PlatformState } from './platform-state.ts';

const HOUR = 3_600;
const all = platforms({ ...ASSUMED, prices: PRICES });
const usdPerSecond = all['cloud-run-job'].kind === 'run' ? all['cloud-run-job'].metering.usdPerSecond : 0;
type Name = 'cloud-run-service' | 'cloud-run-job' | 'voxtral' | 'server';
const candidates = (states: Partial<Record<Name, Partial<PlatformState>>>): Candidate[] =>
  (Object.keys(states) as Name[]).map((name) => ({
    name,
    platform: all[name],
    state: { ...AT_REST, ...states[name] },
  }));
const three = (service: Partial<PlatformState> = {}) =>
  candidates({ 'cloud-run-service': service, 'cloud-run-job': {}, voxtral: {} });
const every = (seconds: number, audioSeconds: number): Demand =>
  Array.from({ length: 64 }, (_, i) => ({ agoSeconds: (i + 1) * seconds, audioSeconds }));
const job = (audioSeconds: number, secondsLeft: number | null = null) => ({ audioSeconds, secondsLeft });

describe('of three that are at rest', () => {
  test.each([
    [30, 'voxtral', 0.0015],
    [2 * HOUR, 'cloud-run-job', (60 + 5 + 720) * usdPerSecond],
  ])('a lone recording of %d s goes to %s', (seconds, name, usd) => {
    const { chosen } = chooseCheapest(three(), [], job(seconds));
    expect(chosen.backend).toBe(name);
    expect(chosen.expectedUsd).toBeCloseTo(usd, 4);
  });

  test('the service is started when so many come that they share its start and its tail', () => {
    const often = chooseCheapest(three(), every(30, HOUR), job(HOUR)).chosen;
    expect(often).toMatchObject({ backend: 'cloud-run-service', meets: 'start' });
    expect(often.sharedBy).toBeGreaterThan(10);
    for (const demand of [[], every(HOUR, HOUR)])
      expect(chooseCheapest(three(), demand, job(HOUR)).chosen.backend).toBe('cloud-run-job');
  });

  test('it is not started for those that another does cheaper anyway', () => {
    expect(chooseCheapest(three(), every(30, 20), job(20)).chosen.backend).toBe('voxtral');
    expect(chooseCheapest(three(), every(30, 20), job(2 * HOUR)).chosen.backend).toBe('cloud-run-job');
  });
});

test('an instance that is there is used, for what it has idled so far moves its tail on by no more', () => {
  const { chosen, estimates } = chooseCheapest(three({ idle: [20] }), [], job(HOUR));
  expect(chosen).toMatchObject({ backend: 'cloud-run-service', meets: 'idle', beginsInSeconds: 0 });
  expect(chosen.expectedUsd).toBeCloseTo((365 + 20) * usdPerSecond, 6);
  expect(estimates).toHaveLength(3);
  // Another cold start costs less than nine minutes of idling.
  expect(chooseCheapest(three({ idle: [540] }), [], job(HOUR)).chosen.backend).toBe('cloud-run-job');
});

describe('a deadline', () => {
  const busy = three({ busy: [900, 1_000, 1_100] });

  test('rules out what is cheapest and too late', () => {
    expect(chooseCheapest(busy, [], job(HOUR)).chosen).toMatchObject({
      backend: 'cloud-run-service',
      meets: 'queue',
      beginsInSeconds: 900,
    });
    const hurried = chooseCheapest(busy, [], job(HOUR, 300));
    expect(hurried).toMatchObject({ isInTime: true, chosen: { backend: 'voxtral' } });
    expect(hurried.chosen.doneInSeconds).toBeLessThan(300);
  });

  test('that nobody meets goes to whoever is done first', () => {
    const late = chooseCheapest(busy, [], job(HOUR, 10));
    expect(late).toMatchObject({ isInTime: false, chosen: { backend: 'voxtral' } });
  });
});

test('work that waits for a place comes first', () => {
  const waiting = candidates({ server: { busy: [100], waitingSeconds: 500 } });
  expect(chooseCheapest(waiting, [], job(HOUR)).chosen).toMatchObject({
    expectedUsd: 0,
    beginsInSeconds: 600,
  });
});
