import { describe, expect, test } from '@jest/globals';
import { ASSUMED, platforms } from '../core/costs/platform-models.ts';
import { PRICES } from '../core/costs/prices.ts';
import { mulberry32 } from '../core/mulberry32.ts';
import { printedRouting } from './print-routing.ts';
import { FIXED, type RoutingRow, routingRow } from './routing-report.ts';
import { namedCases, randomCase } from './routing-workloads.ts';
import { simulateRouted } from './simulate-routed.ts';

const assumptions = { ...ASSUMED, prices: PRICES };
/** Neither these nor those of the report were looked at while the policy was made. */
const UNSEEN = Array.from({ length: 30 }, (_, i) => 20_001 + i);

describe('auto, against the best of always-service, always-job and always-Voxtral as is known afterwards', () => {
  const named = namedCases(7, assumptions).map(routingRow);
  const unseen = UNSEEN.map((seed) => routingRow(randomCase(seed, assumptions)));
  const tooDear = (rows: readonly RoutingRow[]) =>
    rows.filter(({ regret }) => regret > 0.15).map(({ name, regret }) => [name, regret]);

  test('costs at most 15 % more on every named workload, and each of the three is the best somewhere', () => {
    expect(tooDear(named)).toEqual([]);
    expect(new Set(named.map(({ best }) => best))).toEqual(new Set(FIXED));
  });

  test('costs at most 15 % more on workloads that were not used to make it', () => {
    expect(tooDear(unseen)).toEqual([]);
  });

  test('costs no more where the workload changes, and less where no one of the three fits all of it', () => {
    for (const { changes, regret } of named) if (changes) expect(regret).toBeLessThan(1e-9);
    expect(named.filter(({ changes, regret }) => changes && regret < -0.01).length).toBeGreaterThan(2);
  });

  test('is done in time with a deadline, where anything can be', () => {
    for (const { name, autoInTime, fixed } of named) {
      const best = Math.max(...FIXED.map((one) => fixed[one].inTime));
      expect([name, autoInTime.inTime >= best - 0.02]).toEqual([name, true]);
    }
  });

  test('is shown beside them in one table', () => {
    const text = printedRouting({ deadlineSeconds: 1_800, named, random: unseen });
    for (const { name } of named) expect(text).toContain(name);
    expect(text).toContain('30 workloads drawn at random');
  });
});

test('what routed recordings cost is what all platforms bill, to the cent', () => {
  const { 'cloud-run-service': service, ...others } = platforms(assumptions);
  const random = mulberry32(11);
  for (let i = 0; i < 400; i++) {
    const span = 10 ** (2 + 3 * random());
    const arrivals = Array.from({ length: Math.ceil(random() * 25) }, () => ({
      atSeconds: random() * span,
      audioSeconds: 1 + random() * 3 * 3_600,
    })).sort((one, other) => one.atSeconds - other.atSeconds);
    const tail = { maxInstances: 1 + (i % 4), idleTailSeconds: (i % 7) * 100 };
    const all = { ...others, 'cloud-run-service': { ...service, ...tail } };
    const deadline = { secondsToDeadline: i % 2 === 0 ? null : 600, seed: i };
    const routed = simulateRouted(all, { arrivals, horizonSeconds: 2e5 }, deadline);
    expect(routed.jobs.map(({ arrivedAt }) => arrivedAt)).toEqual(arrivals.map(({ atSeconds }) => atSeconds));
    const sum = routed.jobs.reduce((total, { attributedUsd }) => total + attributedUsd, 0);
    // What nobody uses is rented all the same.
    const unused = Object.values(routed.platforms).filter(({ jobs }) => jobs.length === 0);
    const rent = unused.reduce((total, { billUsd }) => total + billUsd, 0);
    expect(Math.abs(sum + rent - routed.billUsd)).toBeLessThan(1e-4);
    expect(Math.min(0, ...routed.jobs.map(({ attributedUsd }) => attributedUsd))).toBeGreaterThan(-1e-9);
  }
});
