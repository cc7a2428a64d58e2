import { describe, expect, test } from '@jest/globals';
import { nextRestart } from './restart-policy.ts';

describe('nextRestart', () => {
  const nowMs = 1_000_000;
  const ago = (...seconds: number[]) => seconds.map((second) => nowMs - second * 1000);
  const soon = (delayMs: number) => ({ delayMs, isExhausted: false });

  test('waits longer each time, three times in three minutes', () => {
    expect(nextRestart([], nowMs)).toEqual(soon(0));
    expect(nextRestart(ago(10), nowMs)).toEqual(soon(1_000));
    expect(nextRestart(ago(20, 10), nowMs)).toEqual(soon(4_000));
  });

  test('then waits until the first of the three is three minutes old', () => {
    expect(nextRestart(ago(179, 20, 10), nowMs)).toEqual({ delayMs: 1_000, isExhausted: true });
    expect(nextRestart(ago(900, 30, 20, 10), nowMs)).toEqual({ delayMs: 150_000, isExhausted: true });
  });

  test('forgets restarts that are three minutes old', () => {
    expect(nextRestart(ago(180, 20, 10), nowMs)).toEqual(soon(4_000));
    expect(nextRestart(ago(900, 800, 700, 600), nowMs)).toEqual(soon(0));
  });
});
