import { readInstallation } from '../core/installation.ts';
import { sampleRecording } from '../core/sample-recording.ts';
import { machineFacts } from './machine.ts';
import { printFacts, printTable } from './print-table.ts';
import { writeResults } from './results.ts';
import { runPythonBenchmark } from './run-python-benchmark.ts';

const RUNS = 5;
const RANDOM_CASES = 1_000;

interface Time {
  seconds: number;
  processor_seconds: number;
}

interface Speed {
  ten_minutes: {
    runs: number;
    words: number;
    stock: Time;
    /** By how many chunks are aligned at once: 1 on a CPU, 8 on a GPU. */
    zeroscribe: Record<string, Time>;
    same_words_times_and_scores: boolean;
  };
  random: { cases: number; differing: number };
}

/** Of models whose first layer normalises over time (`group`, the base ones) and of others (`layer`, the large ones). */
type Precision = Record<
  'group' | 'layer',
  {
    device: string;
    seconds: number;
    words: number;
    median_seconds_from_attention: number;
    median_score: number;
    half_within_20_ms: number;
    half_identical: number;
    together_identical: number;
    as_whisperx: number;
  }
>;

/**
 * The aligner beside whisperx.align, in one process and in turns: the emissions of ten minutes given, since no trained
 * model comes in a package; and whether both find the same in random cases. Then what half precision and batches change
 * in the times of small models that learn the sample by heart for it.
 */
export async function benchAlignment({ runs = RUNS }: { runs?: number }): Promise<void> {
  const { python, packaged_model } = readInstallation();
  const machine = machineFacts();
  const speed = await runPythonBenchmark<Speed>('alignment.py', [String(runs), String(RANDOM_CASES)]);
  const { ten_minutes: ten, random } = speed;
  printFacts(machine);
  console.log(`alignment of ten minutes, ${ten.words} words, emissions given, medians of ${ten.runs}:\n`);
  const cells = (time: Time) =>
    (['seconds', 'processor_seconds'] as const).flatMap((key) => [
      `${time[key].toFixed(3)} s`,
      time === ten.stock ? '' : `**${(ten.stock[key] / time[key]).toFixed(0)} ×**`,
    ]);
  printTable(
    ['', 'by the clock', 'as fast', 'processor time', 'as fast'],
    [
      ['whisperx.align', ...cells(ten.stock)],
      ...Object.entries(ten.zeroscribe).map(([atOnce, time]) => [
        `zeroscribe, ${atOnce} at once`,
        ...cells(time),
      ]),
    ],
  );
  console.log(`\nsame words, times and scores: ${ten.same_words_times_and_scores ? 'yes' : 'NO'}`);
  console.log(`random cases: ${random.cases}, differing: ${random.differing}\n`);

  const precision = await runPythonBenchmark<Precision>('alignment_precision.py', [
    packaged_model.path,
    sampleRecording(python),
  ]);
  await writeResults('alignment', { machine, ...speed, precision });
  printTable(
    [
      'model',
      'on',
      'words',
      'as WhisperX',
      'eight at once: the same',
      'half precision: within 20 ms',
      'the same',
    ],
    Object.entries(precision).map(([norm, found]) => [
      norm,
      found.device,
      String(found.words),
      ...[found.as_whisperx, found.together_identical, found.half_within_20_ms, found.half_identical].map(
        percent,
      ),
    ]),
  );
}

function percent(share: number): string {
  return `${(100 * share).toFixed(2)} %`;
}
