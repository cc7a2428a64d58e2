import { otherRecordings } from '../tests/support/recordings.ts';
import { machineFacts } from './machine.ts';
import { printFacts, printTable } from './print-table.ts';
import { writeResults } from './results.ts';
import { runPythonBenchmark } from './run-python-benchmark.ts';

const RUNS = 3;

interface Seconds {
  seconds: number;
  processor_seconds: number;
  whole_seconds: number;
}

interface Measured {
  device: string;
  runs: number;
  audio_seconds: number;
  turns: number;
  /** By the name of pyannote's clustering, as below. */
  speakers: Record<string, number>;
  /** Embeddings and clustering; the whole. */
  stock: Seconds;
  zeroscribe: Seconds;
  same_turns: Record<string, boolean>;
  precisions: Record<string, { distance: number; same_turns: boolean; seconds?: number }>;
  /** By clustering, then by hours. */
  long: Record<string, Record<string, { windows: number; is_right: boolean; more_mib: number }>>;
}

/**
 * Who speaks when, beside pyannote's own pipeline, in one process and in turns. The speaker model has random weights, but
 * for its last layer, since no trained one comes in a package: that tells time and sameness, not quality.
 */
export async function benchDiarization({ runs = RUNS }: { runs?: number }): Promise<void> {
  const machine = machineFacts();
  const measured = await runPythonBenchmark<Measured>('diarization.py', [
    String(runs),
    ...(await otherRecordings()),
  ]);
  const { stock, zeroscribe } = measured;
  const ratio = stock.seconds / zeroscribe.seconds;
  const processor_ratio = stock.processor_seconds / zeroscribe.processor_seconds;
  await writeResults('diarization', { machine, ratio, processor_ratio, ...measured });
  printFacts({ ...machine, device: measured.device });
  console.log(`diarization of ${measured.audio_seconds.toFixed(0)} s, medians of ${measured.runs}:\n`);
  const row = (name: string, { seconds, processor_seconds, whole_seconds }: Seconds) => [
    name,
    ...[seconds, processor_seconds, whole_seconds].map((value) => `${value.toFixed(1)} s`),
  ];
  printTable(
    ['', 'embeddings and clustering', 'processor time of both', 'the whole'],
    [
      row('pyannote', stock),
      row('zeroscribe', zeroscribe),
      ['as fast', `**${ratio.toFixed(2)} ×**`, `${processor_ratio.toFixed(2)} ×`, ''],
    ],
  );
  console.log();
  printTable(
    [
      'clustering',
      'speakers',
      'same turns',
      'memory after the models, 1 h',
      '10 h',
      'each speaker one at 10 h',
    ],
    Object.entries(measured.same_turns).map(([name, same]) => {
      const { 1: hour, 10: ten } = measured.long[name] ?? {};
      return [
        name,
        String(measured.speakers[name]),
        yesNo(same),
        `${hour?.more_mib.toFixed(0)} MiB`,
        `${ten?.more_mib.toFixed(0)} MiB`,
        yesNo(ten?.is_right),
      ];
    }),
  );
  console.log();
  printTable(
    ['convolutions in', 'embeddings move by (cosine distance)', 'same turns', 'embeddings and clustering'],
    Object.entries(measured.precisions).map(([name, { distance, same_turns, seconds }]) => [
      name,
      distance.toExponential(1),
      yesNo(same_turns),
      seconds === undefined ? 'rounded on a CPU' : `${seconds.toFixed(1)} s`,
    ]),
  );
}

function yesNo(value: boolean | undefined): string {
  return value === true ? 'yes' : 'NO';
}
