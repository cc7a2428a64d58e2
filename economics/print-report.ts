import { table } from '../cli/table.ts';
import type { PlatformReport, Report } from './report.ts';

/** For a terminal. */
export function printedReport(report: Report): string {
  return [
    `${workloadInWords(report)}\n`,
    table([
      [
        '',
        'a video',
        'an audio hour',
        'fixed/month',
        'variable/month',
        'wait p50',
        'p95',
        'in use',
        'margin',
      ],
      ...report.platforms.map(platformRow),
    ]),
    'Break-even, in videos a month from which the second costs no more than the first:\n',
    report.breakEvens.length === 0
      ? '  none\n'
      : table(
          report.breakEvens.map(({ first, second, videosPerMonth }) => [
            `  ${first} → ${second}`,
            count(videosPerMonth),
          ]),
        ),
    'What a video costs if one thing changes:\n',
    table([
      ['', 'as it is', 'twice as fast', 'half as fast', 'prices +20 %', 'prices −20 %'],
      ...report.sensitivity.map(({ name, usdPerVideo }) => [
        name,
        ...[
          usdPerVideo.asItIs,
          usdPerVideo.twiceAsFast,
          usdPerVideo.halfAsFast,
          usdPerVideo.priceUp20Percent,
          usdPerVideo.priceDown20Percent,
        ].map(usd),
      ]),
    ]),
    `${assumptionsInWords(report).join('\n')}\n`,
  ].join('\n');
}

/** Name, cost of a video and of an hour, fixed and variable part of a month, waits, utilisation, margin. */
export function platformRow(one: PlatformReport): string[] {
  return [
    one.name,
    usd(one.usdPerVideo),
    usd(one.usdPerAudioHour),
    usd(one.monthlyFixedUsd),
    usd(one.monthlyVariableUsd),
    duration(one.waitSeconds.p50),
    duration(one.waitSeconds.p95),
    one.utilisation === null ? '–' : percent(one.utilisation),
    one.margin === null ? '–' : percent(one.margin),
  ];
}

export function workloadInWords({ workload, priceUsdPerVideo }: Report): string {
  const sold = priceUsdPerVideo === null ? '' : `, sold for ${usd(priceUsdPerVideo)} each`;
  if (workload.kind === 'measured') {
    return `${count(workload.videos)} jobs that were measured over ${workload.days.toFixed(1)} days${sold}`;
  }
  const { videosPerDay, audioMinutes, lengths, pattern, days } = workload;
  return `${videosPerDay} videos a day of ${audioMinutes} minutes${lengths === 'varied' ? ' on average' : ''}, ${pattern}, over ${days} days${sold}`;
}

export function assumptionsInWords({ assumptions, prices }: Report): string[] {
  const { gpu, voxtral, shape, coldStartSeconds, idleTailSeconds, vertexProvisioningSeconds, maxGpus } =
    assumptions;
  const dates = Object.values(prices).map(({ date }) => date);
  return [
    `Assumed: a GPU does ${gpu.realtimeFactor.toFixed(1)} s of audio a second and ${gpu.overheadSeconds} s a job besides; Voxtral ${voxtral.realtimeFactor} and ${voxtral.overheadSeconds} s;`,
    `an instance has ${shape.vcpu} vCPU and ${shape.memoryGib} GiB, starts in ${coldStartSeconds} s and stays ${idleTailSeconds} s after its last job; a machine of Vertex AI takes ${vertexProvisioningSeconds} s more;`,
    `${maxGpus} GPUs at most; prices as they were from ${dates.toSorted()[0]} to ${dates.toSorted().at(-1)} (core/costs/prices.json, PRICES_FILE for your own).`,
    'Left out: the CPU services, storage, operations and traffic, which together are below a cent a video; failed jobs; your time.',
  ];
}

export function usd(value: number): string {
  const digits = Math.abs(value) >= 100 ? 0 : Math.abs(value) >= 10 ? 2 : 3;
  return `$${value.toLocaleString('en-US', { minimumFractionDigits: digits, maximumFractionDigits: digits })}`;
}

export function percent(value: number): string {
  return `${(100 * value).toFixed(Math.abs(value) > 0.99 && value < 1 ? 1 : 0)} %`;
}

function count(value: number): string {
  return Math.round(value).toLocaleString('en-US');
}

export function duration(seconds: number): string {
  if (seconds < 120) return `${Math.round(seconds)} s`;
  if (seconds < 7_200) return `${Math.round(seconds / 60)} min`;
  return `${(seconds / 3_600).toFixed(1)} h`;
}
