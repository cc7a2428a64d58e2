import { execFile } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { REPOSITORY_ROOT, readInstallation } from '../core/installation.ts';
import { sampleRecording } from '../core/sample-recording.ts';
import { stockWhisperX } from '../tests/support/stock-whisperx.ts';
import { machineFacts } from './machine.ts';
import { type Measurement, measureProcess } from './measure-process.ts';
import { writeResults } from './results.ts';

const RECORDINGS = [
  { name: '30 s', seconds: 30, runs: 5 },
  { name: '10 min', seconds: 600, runs: 3 },
];

/**
 * The whole job beside stock WhisperX's own command line: same machine, model, compute type, file and voice detection,
 * both from process start to the written result, taken in turns. Ours also makes word times and a playable copy.
 */
export async function benchEngine({ runs: runsGiven }: { runs?: number }): Promise<void> {
  const installation = readInstallation();
  const folder = await mkdtemp(join(tmpdir(), 'zeroscribe-bench-'));
  const rows = [];
  try {
    for (const recording of RECORDINGS) {
      const file = join(folder, `${recording.seconds}.wav`);
      await promisify(execFile)(installation.ffmpeg, [
        '-loglevel',
        'error',
        '-stream_loop',
        '-1',
        '-i',
        sampleRecording(installation.python),
        '-t',
        String(recording.seconds),
        file,
      ]);
      const stock: Measurement[] = [];
      const ours: Measurement[] = [];
      const stockCommand = stockWhisperX(installation, { files: [file], outDir: folder, formats: 'all' });
      const ourCommand = [
        process.execPath,
        'setup/zeroscribe.mjs',
        'transcribe',
        file,
        '--language',
        'en',
        '--model',
        installation.packaged_model.name,
        '--format',
        'json,srt,vtt,txt,tsv',
        '--out',
        folder,
      ];
      for (let run = 0; run < (runsGiven ?? recording.runs); run++) {
        console.error(`${recording.name}: run ${run + 1}, stock`);
        stock.push(await measureProcess(stockCommand.command, { cwd: folder, env: stockCommand.env }));
        console.error(`${recording.name}: run ${run + 1}, zeroscribe`);
        ours.push(await measureProcess(ourCommand, { cwd: REPOSITORY_ROOT, env: process.env }));
      }
      rows.push(summarize(recording, stock, ours));
    }
    const results = { machine: machineFacts(), model: installation.packaged_model.name, rows };
    await writeResults('engine', results);
    print(results);
  } finally {
    await rm(folder, { recursive: true });
  }
}

type Row = ReturnType<typeof summarize>;

function summarize(recording: { name: string; seconds: number }, stock: Measurement[], ours: Measurement[]) {
  const side = (measurements: Measurement[]) => {
    const wallSeconds = median(measurements.map((measurement) => measurement.wallSeconds));
    return {
      wall_seconds: wallSeconds,
      all_wall_seconds: measurements.map((measurement) => measurement.wallSeconds),
      realtime_factor: recording.seconds / wallSeconds,
      peak_memory_mb: median(measurements.map((measurement) => measurement.peakMemoryBytes)) / 1e6,
    };
  };
  const [stockSide, ourSide] = [side(stock), side(ours)];
  return {
    recording: recording.name,
    runs: stock.length,
    stock: stockSide,
    zeroscribe: ourSide,
    speedup: stockSide.wall_seconds / ourSide.wall_seconds,
  };
}

function median(values: number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1
    ? (sorted[middle] ?? Number.NaN)
    : ((sorted[middle - 1] ?? Number.NaN) + (sorted[middle] ?? Number.NaN)) / 2;
}

function print({
  machine,
  model,
  rows,
}: {
  machine: Record<string, string | number>;
  model: string;
  rows: Row[];
}): void {
  console.log(
    Object.entries(machine)
      .map(([name, value]) => `${name}: ${value}`)
      .join(' · '),
  );
  console.log(`model: ${model}, medians\n`);
  console.log('| recording | runs | | wall time | × real time | peak memory | ratio |');
  console.log('|---|---|---|---|---|---|---|');
  for (const row of rows) {
    for (const [name, side] of [
      ['stock WhisperX', row.stock],
      ['zeroscribe', row.zeroscribe],
    ] as const) {
      const ratio = name === 'zeroscribe' ? `${row.speedup.toFixed(2)}× as fast` : '';
      console.log(
        `| ${row.recording} | ${row.runs} | ${name} | ${side.wall_seconds.toFixed(1)} s | ${side.realtime_factor.toFixed(1)} | ${side.peak_memory_mb.toFixed(0)} MB | ${ratio} |`,
      );
    }
  }
}
