import { existsSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Installation, REPOSITORY_ROOT, readInstallation } from '../core/installation.ts';
import { stockWhisperX } from '../tests/support/stock-whisperx.ts';
import { loopRecording } from './loop-recording.ts';
import { machineFacts } from './machine.ts';
import { type Measurement, measureProcess } from './measure-process.ts';
import { median } from './median.ts';
import { ourTranscription } from './our-transcription.ts';
import { printFacts, printTable } from './print-table.ts';
import { writeResults } from './results.ts';

/** The video for which this was made lasts 71 minutes. */
const GPU_RECORDING = { name: '71 min', seconds: 71 * 60 };
const GPU_MODELS = ['large-v3-turbo', 'large-v3'];
const CPU_RECORDINGS = [
  { name: '11 s', seconds: 11 },
  { name: '30 s', seconds: 30 },
  { name: '10 min', seconds: 600 },
];

interface Case {
  recording: { name: string; seconds: number };
  model: { name: string; path: string };
}

/**
 * Stock WhisperX finds speech with pyannote, ours with Silero; with pyannote too, what is left is the rest of it. Stock is
 * run without alignment, and so makes no word times.
 */
const TOOLS = ['stock WhisperX', 'zeroscribe', 'without word times', 'with pyannote'] as const;
type Tool = (typeof TOOLS)[number];

/**
 * The whole job beside stock WhisperX's own command line: same machine, model, compute type and file, both from process
 * start to the written result, taken in turns. Ours also makes a playable copy, and word times unless it says otherwise.
 */
export async function benchEngine({ runs }: { runs?: number }): Promise<void> {
  const installation = readInstallation();
  const folder = await mkdtemp(join(tmpdir(), 'zeroscribe-bench-'));
  const machine = machineFacts();
  const rows = [];
  try {
    for (const one of cases(installation)) {
      const file = await loopRecording(folder, one.recording);
      const measured = await measureInTurns(installation, one, { file, folder, runs });
      rows.push(...TOOLS.map((tool) => summarize(one, tool, measured)));
      await writeResults('engine', { machine, rows });
    }
  } finally {
    await rm(folder, { recursive: true });
  }
  printFacts(machine);
  printTable(
    ['recording', 'model', 'runs', '', 'wall time', '× real time', 'peak memory', 'ratio'],
    rows.map((row) => [
      row.recording,
      row.model,
      String(row.all_wall_seconds.length),
      row.tool,
      `${row.wall_seconds.toFixed(1)} s`,
      row.realtime_factor.toFixed(1),
      `${row.peak_memory_mb.toFixed(0)} MB`,
      `${row.times_as_fast_as_stock.toFixed(2)}× as fast`,
    ]),
  );
}

function cases({ device, packaged_model }: Installation): Case[] {
  const modelsDir = process.env.MODELS_DIR ?? join(REPOSITORY_ROOT, 'models');
  const models = GPU_MODELS.map((name) => ({ name, path: join(modelsDir, name) })).filter(({ path }) =>
    existsSync(join(path, 'model.bin')),
  );
  if (device === 'cuda' && models.length > 0)
    return models.map((model) => ({ recording: GPU_RECORDING, model }));
  const missing = device === 'cuda' ? `no ${GPU_MODELS.join(' or ')} in ${modelsDir}` : 'no CUDA here';
  console.log(`There is ${missing}: short recordings with ${packaged_model.name} instead.`);
  return CPU_RECORDINGS.map((recording) => ({ recording, model: packaged_model }));
}

async function measureInTurns(
  installation: Installation,
  { recording, model }: Case,
  { file, folder, runs }: { file: string; folder: string; runs: number | undefined },
): Promise<Map<Tool, Measurement[]>> {
  const files = { outDir: folder, formats: 'json,srt,vtt,txt,tsv' };
  const stock = stockWhisperX(installation, {
    files: [file],
    outDir: folder,
    formats: 'all',
    modelPath: model.path,
  });
  const ours = (...options: string[]) =>
    ourTranscription(installation, { ...files, file, model: model.name, options });
  const commands = {
    'stock WhisperX': { ...stock, cwd: folder },
    zeroscribe: ours(),
    'without word times': ours('--no-word-timestamps'),
    'with pyannote': ours('--vad-method', 'pyannote'),
  };
  const measured = new Map<Tool, Measurement[]>(TOOLS.map((tool) => [tool, []]));
  let wanted = runs ?? 5;
  for (let run = 0; run < wanted; run++) {
    for (const tool of TOOLS) {
      const { command, cwd, env } = commands[tool];
      const one = await measureProcess(command, { cwd, env });
      measured.get(tool)?.push(one);
      console.error(
        `${recording.name}, ${model.name}, run ${run + 1}: ${tool} ${one.wallSeconds.toFixed(1)} s`,
      );
      if (runs === undefined && one.wallSeconds > 60) wanted = 3;
    }
  }
  return measured;
}

function summarize(
  { recording, model }: Case,
  tool: Tool,
  measured: ReadonlyMap<Tool, readonly Measurement[]>,
) {
  const own = measured.get(tool) ?? [];
  const seconds = (measurements: readonly Measurement[]) =>
    measurements.map(({ wallSeconds }) => wallSeconds);
  const wallSeconds = median(seconds(own));
  return {
    recording: recording.name,
    model: model.name,
    tool,
    wall_seconds: wallSeconds,
    all_wall_seconds: seconds(own),
    realtime_factor: recording.seconds / wallSeconds,
    times_as_fast_as_stock: median(seconds(measured.get('stock WhisperX') ?? [])) / wallSeconds,
    peak_memory_mb: median(own.map(({ peakMemoryBytes }) => peakMemoryBytes)) / 1e6,
  };
}
