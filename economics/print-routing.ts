import { table } from '../cli/table.ts';
import { duration, percent, usd } from './print-report.ts';
import { FIXED, type RoutingReport, type RoutingRow } from './routing-report.ts';

export const ROUTING_HEADS = [
  '',
  'always service',
  'always job',
  'always Voxtral',
  'auto',
  'regret',
  'in time',
];

/** Cost and p95 of the wait of each; of auto how much more it costs than the best of the others, and with the deadline. */
export function routingCells(row: RoutingRow): string[] {
  const { name, fixed, auto, autoInTime, regret } = row;
  const cell = ({ billUsd, waitSecondsP95 }: RoutingRow['auto']) =>
    `${usd(billUsd)} · ${duration(waitSecondsP95)}`;
  return [
    name,
    ...FIXED.map((one) => cell(fixed[one])),
    cell(auto),
    `${regret > 0 ? '+' : ''}${percent(regret)}`,
    `${percent(auto.inTime)} → ${percent(autoInTime.inTime)} · ${usd(autoInTime.billUsd)}`,
  ];
}

/** What the many that were drawn at random come to. */
export function randomInWords({ random }: RoutingReport): string[] {
  const regrets = random.map(({ regret }) => regret);
  const changing = random.filter(({ changes }) => changes);
  const sum = (of: (row: RoutingRow) => number) => random.reduce((all, row) => all + of(row), 0);
  const wins = FIXED.map((one) => `${one} in ${random.filter(({ best }) => best === one).length}`);
  const worst = random.toSorted((one, other) => other.regret - one.regret).slice(0, 3);
  const inTime = (of: (row: RoutingRow) => number) => percent(sum(of) / random.length);
  return [
    `${random.length} workloads drawn at random; the best fixed choice is ${wins.join(', ')}.`,
    `auto costs less than the best fixed choice in ${regrets.filter((one) => one < -1e-6).length} of them (where the workload changes in ${changing.filter(({ regret }) => regret < -1e-6).length} of ${changing.length}), within 5 % of it in ${regrets.filter((one) => one <= 0.05).length}, within 15 % in ${regrets.filter((one) => one <= 0.15).length}; the mean is ${percent(sum(({ regret }) => regret) / random.length)}.`,
    `The worst: ${worst.map(({ name, regret, auto }) => `${name}: ${percent(regret)} of ${usd(auto.billUsd)}`).join('; ')}.`,
    `All together: ${FIXED.map((one) => `${one} ${usd(sum(({ fixed }) => fixed[one].billUsd))}`).join(', ')}, auto ${usd(sum(({ auto }) => auto.billUsd))}.`,
    `Done in time, on average: ${FIXED.map((one) => `${one} ${inTime(({ fixed }) => fixed[one].inTime)}`).join(', ')}, auto ${inTime(({ auto }) => auto.inTime)}, auto with the deadline ${inTime(({ autoInTime }) => autoInTime.inTime)}.`,
  ];
}

export function routingIntroduction({ deadlineSeconds }: RoutingReport): string {
  return `What all recordings of a workload cost, and p95 of their waits. "in time": done within ${duration(deadlineSeconds)}, without and with that as the deadline, and what it then costs.`;
}

/** For a terminal. */
export function printedRouting(report: RoutingReport): string {
  return [
    `${routingIntroduction(report)}\n`,
    table([ROUTING_HEADS, ...report.named.map(routingCells)]),
    `${randomInWords(report).join('\n')}\n`,
  ].join('\n');
}
