import { describe, expect, test } from '@jest/globals';
import { restartDelayMs } from './restart-policy.ts';

describe('restartDelayMs', () => {
  const nowMs = 1_000_000;
  const ago = (...seconds: number[]) => seconds.map((second) => nowMs - second * 1000);

  test('waits longer each time, three times in three minutes', () => {
    expect(restartDelayMs([], nowMs)).toBe(0);
    expect(restartDelayMs(ago(10), nowMs)).toBe(1_000);
    expect(restartDelayMs(ago(20, 10), nowMs)).toBe(4_000);
    expect(restartDelayMs(ago(179, 20, 10), nowMs)).toBeUndefined();
  });

  test('forgets restarts that are three minutes old', () => {
    expect(restartDelayMs(ago(180, 20, 10), nowMs)).toBe(4_000);
    expect(restartDelayMs(ago(900, 800, 700, 600), nowMs)).toBe(0);
  });
});
