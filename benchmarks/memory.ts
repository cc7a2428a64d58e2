import { mkdtemp, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { readInstallation } from '../core/installation.ts';
import { fakeSidecarCommand } from '../tests/support/fake-sidecar.ts';
import { stockWhisperX } from '../tests/support/stock-whisperx.ts';
import { loopRecording } from './loop-recording.ts';
import { machineFacts } from './machine.ts';
import { measureProcess } from './measure-process.ts';
import { ourTranscription } from './our-transcription.ts';
import { printFacts, printTable } from './print-table.ts';
import { writeResults } from './results.ts';

const HOURS = [1, 3, 10];
/** Stock WhisperX is not asked for more: the slope is known by then, and ten hours take it as long as all the rest. */
const MOST_STOCK_HOURS = 3;

/** After 30 s of speech. What takes memory does not depend on it, and what takes time does: ten hours of speech last an hour. */
const PAUSE_SECONDS = 60;

/** In `service` our models answer at once with made up words, two a second: what is left is Node and ffmpeg. */
export const MEMORY_TOOLS = ['service', 'zeroscribe', 'stock'] as const;
type Tool = (typeof MEMORY_TOOLS)[number];

interface Row {
  tool: Tool;
  hours: number;
  seconds: number;
  peak_mb: number;
  peak_own_mb: number;
  peak_own_mb_by_process: Record<string, number>;
  transcript_mb: number;
}

/**
 * How much memory a long recording takes, of which a third is speech, beside stock WhisperX's command line with the same
 * model: the whole service for one job. One run of each, the short ones first.
 */
export async function benchMemory({
  hours = HOURS,
  only = MEMORY_TOOLS,
}: {
  hours?: readonly number[];
  only?: readonly string[];
}): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), 'zeroscribe-bench-'));
  const machine = machineFacts();
  const rows: Row[] = [];
  try {
    for (const length of hours) {
      const file = await loopRecording(folder, {
        seconds: length * 3_600,
        format: 'mp3',
        pauseSeconds: PAUSE_SECONDS,
      });
      for (const tool of MEMORY_TOOLS) {
        if (!only.includes(tool) || (tool === 'stock' && length > MOST_STOCK_HOURS)) continue;
        console.error(`${new Date().toISOString()} ${length} h, ${tool} …`);
        const row = await measure(tool, file, folder, length);
        rows.push(row);
        console.error(JSON.stringify(row));
        await writeResults('memory', { machine, rows, ...conclusions(rows) });
      }
    }
  } finally {
    await rm(folder, { recursive: true });
  }
  print(rows);
}

async function measure(tool: Tool, file: string, folder: string, hours: number): Promise<Row> {
  const { command, env, cwd } = commandOf(tool, file, folder);
  const measured = await measureProcess(command, { cwd, env, nameOf });
  const transcript = await stat(file.replace(/\.mp3$/, '.json'));
  return {
    tool,
    hours,
    seconds: measured.wallSeconds,
    peak_mb: megabytes(measured.peakMemoryBytes),
    peak_own_mb: megabytes(measured.peakOwnMemoryBytes),
    peak_own_mb_by_process: Object.fromEntries(
      Object.entries(measured.peakOwnMemoryBytesByName).map(([name, bytes]) => [name, megabytes(bytes)]),
    ),
    transcript_mb: megabytes(transcript.size),
  };
}

function commandOf(tool: Tool, file: string, folder: string) {
  const installation = readInstallation();
  if (tool === 'stock') {
    return {
      ...stockWhisperX(installation, { files: [file], outDir: folder, formats: 'json' }),
      cwd: folder,
    };
  }
  const ours = ourTranscription(installation, { file, outDir: folder, formats: 'json' });
  if (tool === 'zeroscribe') return ours;
  return { ...ours, env: { ...ours.env, SIDECAR_COMMAND: JSON.stringify(fakeSidecarCommand('good')) } };
}

function nameOf(commandLine: readonly string[]): string {
  const file = basename(commandLine[0] ?? '');
  const sidecar = commandLine.indexOf('zeroscribe_sidecar');
  if (sidecar === -1) return file.startsWith('python') ? 'python' : file;
  const config = JSON.parse(commandLine[sidecar + 1] ?? '{}') as { role?: string };
  return config.role ?? 'sidecar';
}

function megabytes(bytes: number): number {
  return Math.round(bytes / 1e5) / 10;
}

/** Of memory that is the processes' own: what is mapped from files is the same however much of it is resident. */
function conclusions(rows: readonly Row[]) {
  const slope = (tool: Tool) => {
    const [first, ...rest] = rows.filter((row) => row.tool === tool);
    const last = rest.at(-1);
    if (first === undefined || last === undefined) return null;
    return (last.peak_own_mb - first.peak_own_mb) / (last.hours - first.hours);
  };
  const ours = rows.filter(({ tool }) => tool === 'zeroscribe');
  const [first, last] = [ours[0], ours.at(-1)];
  return {
    stock_mb_per_hour: slope('stock'),
    zeroscribe_mb_per_hour: slope('zeroscribe'),
    longest_to_shortest: first && last && last !== first ? last.peak_own_mb / first.peak_own_mb : null,
  };
}

function print(rows: readonly Row[]): void {
  printFacts(machineFacts());
  printTable(
    ['recording', '', 'peak', 'without mapped files', 'of which', 'transcript', 'took'],
    rows.map((row) => [
      `${row.hours} h`,
      row.tool,
      `${row.peak_mb.toFixed(0)} MB`,
      `${row.peak_own_mb.toFixed(0)} MB`,
      Object.entries(row.peak_own_mb_by_process)
        .map(([name, mb]) => `${name} ${mb.toFixed(0)}`)
        .join(', '),
      `${row.transcript_mb.toFixed(1)} MB`,
      `${row.seconds.toFixed(0)} s`,
    ]),
  );
  const { stock_mb_per_hour, zeroscribe_mb_per_hour, longest_to_shortest } = conclusions(rows);
  const figure = (value: number | null, digits: number) => value?.toFixed(digits) ?? 'not measured';
  console.log(
    `\nmore for each hour: stock ${figure(stock_mb_per_hour, 0)} MB, ours ${figure(zeroscribe_mb_per_hour, 1)} MB`,
  );
  console.log(`ours, the longest recording to the shortest: ${figure(longest_to_shortest, 2)}`);
}
