import { describe, expect, test } from '@jest/globals';
import { ASSUMED, type Platform, platforms } from '../core/costs/platform-models.ts';
import { PRICES } from '../core/costs/prices.ts';
import { BreakEvens } from './break-even.ts';
import { htmlReport } from './html-report.ts';
import { fromJobs } from './measured-jobs.ts';
import { originalFigures } from './original-figures.ts';
import { printedReport } from './print-report.ts';
import { makeReport } from './report.ts';
import { summaryOf } from './summary.ts';
import { makeWorkload, type WorkloadOptions } from './workload.ts';

const assumptions = { ...ASSUMED, prices: PRICES };
const workload: WorkloadOptions = {
  pattern: 'steady',
  videosPerDay: 10,
  audioMinutes: 71,
  lengths: 'fixed',
  days: 30,
  seed: 1,
};
const report = makeReport({ assumptions, workload, priceUsdPerVideo: 5 });
const of = (name: string) => report.platforms.find((one) => one.name === name);

describe('the arithmetic that the project started from', () => {
  const figures = originalFigures({
    cloudRunUsdPerSecond: 0.0003947,
    coldStartSeconds: 60,
    idleTailSeconds: 600,
    vertexUsdPerHour: 0.98,
  });
  const usd = figures.map((figure) => figure.usd);

  test('comes out as it was said', () => {
    expect(usd[0]).toBeCloseTo(0.047, 3);
    expect(usd[1]).toBeCloseTo(0.07, 3);
    expect(1 - (usd[1] ?? 0) / (usd[2] ?? 0)).toBeCloseTo(0.995, 6);
    expect(usd[3]).toBe(288);
    expect(figures[4]?.formula).toContain('2,743');
  });

  test('is shown with what it left out', () => {
    expect(figures[0]?.withAllUsd).toBeCloseTo((60 + 420 + 600) * 0.0003947, 9);
    expect(figures[3]?.withAllUsd).toBeCloseTo(0.0003947 * 3_600 * 720, 6);
    for (const { leftOut } of figures) expect(leftOut.length).toBeGreaterThan(40);
  });

  test('holds in the simulation where nothing is left in', () => {
    const bare: Platform = {
      kind: 'service',
      realtimeFactor: 71 / 7,
      overheadSeconds: 0,
      metering: { usdPerSecond: 0.4 / 3_600, minimumSeconds: 0, stepSeconds: 0.1 },
      coldStartSeconds: 0,
      idleTailSeconds: 0,
      minInstances: 0,
      maxInstances: 100,
    };
    expect(summaryOf(bare, makeWorkload(workload)).usdPerVideo).toBeCloseTo(0.0467, 4);
    const alwaysOn = { ...bare, minInstances: 1 };
    expect(summaryOf(alwaysOn, makeWorkload(workload)).monthlyFixedUsd).toBeCloseTo(288, 6);
    // Between the two prices a video had: $160 a month are 2,700 videos of six cents.
    const server: Platform = {
      ...platforms(assumptions).server,
      kind: 'server',
      usdPerSecond: 160 / (30 * 86_400),
    } as Platform;
    const six = { ...bare, metering: { ...bare.metering, usdPerSecond: 0.0583 / 420 } };
    const found = new BreakEvens({ ...workload, pattern: 'even' }).between(six, server);
    expect(found?.videosPerDay).toBeGreaterThan(85);
    expect(found?.videosPerDay).toBeLessThan(95);
  });
});

test('a margin is what is left of the price', () => {
  for (const { margin, usdPerVideo } of report.platforms) expect(margin).toBeCloseTo(1 - usdPerVideo / 5, 12);
});

test('on both sides of a break-even the cheaper one is the one it says', () => {
  const all = platforms(assumptions);
  expect(report.breakEvens.length).toBeGreaterThan(3);
  for (const { first, second, videosPerMonth } of report.breakEvens) {
    const at = (times: number) => makeWorkload({ ...workload, videosPerDay: (videosPerMonth * times) / 30 });
    expect(summaryOf(all[second], at(1)).billUsd).toBeLessThanOrEqual(summaryOf(all[first], at(1)).billUsd);
    expect(summaryOf(all[second], at(0.9)).billUsd).toBeGreaterThan(summaryOf(all[first], at(0.9)).billUsd);
  }
});

test('a platform that cannot keep up with a volume has no break-even there', () => {
  const all = platforms(assumptions);
  const slow: Platform = { ...all.server, kind: 'server', realtimeFactor: 0.5 } as Platform;
  expect(new BreakEvens(workload).between(all.voxtral, slow)).toBeUndefined();
});

test('speed changes what is paid by time, and prices what is paid at all', () => {
  const change = Object.fromEntries(report.sensitivity.map(({ name, usdPerVideo }) => [name, usdPerVideo]));
  expect(change['cloud-run-job']?.twiceAsFast).toBeLessThan(change['cloud-run-job']?.asItIs ?? 0);
  expect(change.voxtral?.twiceAsFast).toBe(change.voxtral?.asItIs);
  expect(change.server?.twiceAsFast).toBe(change.server?.asItIs);
  for (const cost of Object.values(change)) expect(cost.priceUp20Percent / cost.asItIs).toBeCloseTo(1.2, 9);
});

test('the printed report has every platform and every assumption', () => {
  const text = printedReport(report);
  for (const { name } of report.platforms) expect(text).toContain(name);
  expect(text).toContain('10 videos a day of 71 minutes, steady, over 30 days, sold for $5.000 each');
  expect(text).toContain('8 vCPU and 32 GiB');
});

test('the page holds its plot and needs nothing from elsewhere', () => {
  const page = htmlReport(report, [
    {
      name: '<b>&',
      points: [
        { videosPerMonth: 1, usdPerVideo: 5 },
        { videosPerMonth: 900, usdPerVideo: 0.2 },
      ],
    },
  ]);
  expect(page).toContain('<polyline');
  expect(page).not.toMatch(/<script|<link|src=|https?:/);
  expect(page).not.toContain('<b>');
  expect(page).toContain('$0.047');
});

test('jobs that were done say how fast the GPU is and when recordings come', () => {
  const job = (at: string, audio: number | null, work: number | null, cold: number | null) => ({
    created_at: at,
    duration_seconds: audio,
    metrics: { processing_seconds: work, cold_start_seconds: cold, realtime_factor: null },
  });
  const measured = fromJobs([
    job('2026-11-03T10:00:00Z', 1_000, 50, 0),
    job('2026-11-01T10:00:00Z', 3_000, 150, 41),
    job('2026-11-02T10:00:00Z', null, null, null),
  ]);
  expect(measured).toEqual({
    workload: {
      arrivals: [
        { atSeconds: 0, audioSeconds: 3_000 },
        { atSeconds: 2 * 86_400, audioSeconds: 1_000 },
      ],
      horizonSeconds: 2 * 86_400,
    },
    gpu: { realtimeFactor: 20, overheadSeconds: 0 },
    coldStartSeconds: 41,
  });
  expect(fromJobs([job('2026-11-02T10:00:00Z', null, null, null)])).toBeUndefined();
  // Where a GPU was used, its time counts, and its start from the beginning.
  const usage = [
    { backend: 'cpu-service', busy_seconds: 9, cold_start_seconds: 0, gpu_seconds: 0 },
    { backend: 'gpu', busy_seconds: 141, cold_start_seconds: 8, gpu_seconds: 141 },
  ];
  expect(fromJobs([{ ...job('2026-11-01T10:00:00Z', 1_000, 90, 41), usage }])).toMatchObject({
    gpu: { realtimeFactor: 10 },
    coldStartSeconds: 49,
  });
  // An API's job has come like the others, and says nothing of the GPU.
  const api = [
    { backend: 'voxtral', busy_seconds: 9, cold_start_seconds: 0, gpu_seconds: 0, api_audio_seconds: 9_000 },
  ];
  const both = fromJobs([
    job('2026-11-01T10:00:00Z', 1_000, 50, 0),
    { ...job('2026-11-01T11:00:00Z', 9_000, 9, 0), usage: api },
  ]);
  expect(both?.gpu.realtimeFactor).toBe(20);
  expect(both?.workload.arrivals).toHaveLength(2);
});

test('the cheapest way for one video a day is no always-on machine', () => {
  const lone = makeReport({
    assumptions,
    workload: { ...workload, videosPerDay: 1 },
    priceUsdPerVideo: null,
  });
  const sorted = lone.platforms.toSorted((one, other) => one.usdPerVideo - other.usdPerVideo);
  expect(
    sorted
      .slice(-2)
      .map(({ name }) => name)
      .sort(),
  ).toEqual(['cloud-run-service-min-1', 'server']);
  expect(of('server')?.monthlyFixedUsd).toBeCloseTo(215, 0);
});
