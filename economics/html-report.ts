import { assumptionsInWords, platformRow, usd, workloadInWords } from './print-report.ts';
import { ROUTING_HEADS, randomInWords, routingCells, routingIntroduction } from './print-routing.ts';
import type { Report } from './report.ts';
import type { RoutingReport } from './routing-report.ts';

export interface VolumeCurve {
  name: string;
  points: { videosPerMonth: number; usdPerVideo: number }[];
}

/** One page that needs nothing else: the tables, and what a video costs at every volume. */
export function htmlReport(report: Report, curves: readonly VolumeCurve[], routing?: RoutingReport): string {
  const rows = report.platforms.map(platformRow);
  const heads = [
    '',
    'a video',
    'an audio hour',
    'fixed a month',
    'variable a month',
    'wait p50',
    'wait p95',
    'in use',
    'margin',
  ];
  return `<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>What a transcription costs</title>
<style>
body{font:15px/1.5 system-ui,sans-serif;max-width:62rem;margin:2rem auto;padding:0 1rem;color:#1b1b1b;background:#fff}
table{border-collapse:collapse;width:100%;margin:1rem 0}td,th{padding:.3rem .6rem;text-align:right;border-bottom:1px solid #ddd}
td:first-child,th:first-child{text-align:left}svg{width:100%;height:auto}figcaption,small{color:#555}
</style>
<h1>What a transcription costs</h1>
<p>${escaped(workloadInWords(report))}</p>
${htmlTable(heads, rows)}
<h2>What a video costs, by volume</h2>
<figure>${volumePlot(curves)}<figcaption>US dollars a video against videos a month; both scales are logarithmic.</figcaption></figure>
<h2>Break-even</h2>
${htmlTable(
  ['from', 'to', 'videos a month'],
  report.breakEvens.map(({ first, second, videosPerMonth }) => [
    first,
    second,
    Math.round(videosPerMonth).toLocaleString('en-US'),
  ]),
)}
<h2>If one thing changes</h2>
${htmlTable(
  ['', 'as it is', 'twice as fast', 'half as fast', 'prices +20 %', 'prices −20 %'],
  report.sensitivity.map(({ name, usdPerVideo: cost }) => [
    name,
    ...[cost.asItIs, cost.twiceAsFast, cost.halfAsFast, cost.priceUp20Percent, cost.priceDown20Percent].map(
      usd,
    ),
  ]),
)}
<h2>The figures that the project was started from</h2>
${htmlTable(
  ['', 'said', 'how', 'with what it left out', 'left out'],
  report.original.map(({ what, said, formula, withAllUsd, leftOut }) => [
    what,
    said,
    formula,
    withAllUsd === null ? '–' : usd(withAllUsd),
    leftOut,
  ]),
)}
${routing === undefined ? '' : routingSection(routing)}
<small>${assumptionsInWords(report).map(escaped).join(' ')}</small>
</html>
`;
}

function routingSection(routing: RoutingReport): string {
  return `<h2>What auto comes to</h2>
<p>${escaped(routingIntroduction(routing))}</p>
${htmlTable(ROUTING_HEADS, routing.named.map(routingCells))}
<ul>${randomInWords(routing)
    .map((sentence) => `<li>${escaped(sentence)}</li>`)
    .join('')}</ul>`;
}

const WIDTH = 900;
const HEIGHT = 420;
const MARGIN = { left: 70, right: 190, top: 15, bottom: 40 };
const COLOURS = ['#1f77b4', '#7aa7d6', '#2ca02c', '#9467bd', '#c59de0', '#8c564b', '#d62728'];

function volumePlot(curves: readonly VolumeCurve[]): string {
  const points = curves.flatMap((curve) => curve.points);
  const x = logScale(
    points.map(({ videosPerMonth }) => videosPerMonth),
    MARGIN.left,
    WIDTH - MARGIN.right,
  );
  const y = logScale(
    points.map(({ usdPerVideo }) => usdPerVideo),
    HEIGHT - MARGIN.bottom,
    MARGIN.top,
  );
  const grid = [
    ...x.ticks.map(
      (tick) =>
        `<line x1="${x.at(tick)}" x2="${x.at(tick)}" y1="${MARGIN.top}" y2="${HEIGHT - MARGIN.bottom}" stroke="#eee"/><text x="${x.at(tick)}" y="${HEIGHT - MARGIN.bottom + 18}" text-anchor="middle">${tick.toLocaleString('en-US')}</text>`,
    ),
    ...y.ticks.map(
      (tick) =>
        `<line x1="${MARGIN.left}" x2="${WIDTH - MARGIN.right}" y1="${y.at(tick)}" y2="${y.at(tick)}" stroke="#eee"/><text x="${MARGIN.left - 8}" y="${y.at(tick) + 4}" text-anchor="end">$${tick}</text>`,
    ),
  ];
  const lines = curves.map(({ name, points: of }, i) => {
    const path = of
      .map((point) => `${x.at(point.videosPerMonth).toFixed(1)},${y.at(point.usdPerVideo).toFixed(1)}`)
      .join(' ');
    const colour = COLOURS[i % COLOURS.length];
    const row = MARGIN.top + 12 + i * 20;
    const key = `<rect x="${WIDTH - MARGIN.right + 15}" y="${row - 8}" width="14" height="4" fill="${colour}"/><text x="${WIDTH - MARGIN.right + 35}" y="${row}">${escaped(name)}</text>`;
    return `<polyline points="${path}" fill="none" stroke="${colour}" stroke-width="2"/>${key}`;
  });
  return `<svg viewBox="0 0 ${WIDTH} ${HEIGHT}" font-size="12" role="img" aria-label="Cost of a video by volume">${[...grid, ...lines].join('')}</svg>`;
}

function logScale(values: readonly number[], from: number, to: number) {
  const low = Math.floor(Math.log10(Math.min(...values)));
  const high = Math.max(low + 1, Math.ceil(Math.log10(Math.max(...values))));
  return {
    at: (value: number) => from + ((Math.log10(value) - low) / (high - low)) * (to - from),
    ticks: Array.from({ length: high - low + 1 }, (_, i) => Number((10 ** (low + i)).toPrecision(1))),
  };
}

function htmlTable(heads: readonly string[], rows: readonly (readonly string[])[]): string {
  const cells = (tag: string, row: readonly string[]) =>
    `<tr>${row.map((cell) => `<${tag}>${escaped(cell)}</${tag}>`).join('')}</tr>`;
  return `<table>${cells('th', heads)}${rows.map((row) => cells('td', row)).join('')}</table>`;
}

function escaped(text: string): string {
  return text.replace(/[&<>"]/g, (character) => `&#${character.charCodeAt(0)};`);
}
