import { existsSync, readFileSync } from 'node:fs';
import { glob, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { KEEPS_LARGE_BLOCKS } from '../gpu-service/supervisor/command.ts';
import { type Counts, closingLine, jestCounts, pytestCounts, sum } from './test-counts.ts';
import { nodeTool, pythonTool, type Run, run, SIDECAR, type Tool } from './tools.ts';

// `npm test`: format, lint and types, then every test. `npm test -- PATTERN…`: only the test files whose path has one.

const CHECK_TIMEOUT_MS = 5 * 60_000;
/** Ends what hangs; a slow and busy machine takes several times as long as a quick one. */
const TESTS_TIMEOUT_MS = 40 * 60_000;
const PASSED: Counts = { passed: 1, failed: 0, skipped: 0 };
const FAILED: Counts = { passed: 0, failed: 1, skipped: 0 };
const NONE: Counts = { passed: 0, failed: 0, skipped: 0 };

/** Quick ones. mypy, which takes a minute when it has no cache, runs beside Jest. */
const CHECKS: Tool[] = [
  {
    name: 'biome: format and lint',
    command: nodeTool('@biomejs/biome/bin/biome', 'check', '--error-on-warnings'),
  },
  { name: 'tsc: types', command: nodeTool('typescript/bin/tsc') },
  { name: 'ruff: format', command: pythonTool('ruff', 'format', '--check') },
  { name: 'ruff: lint', command: pythonTool('ruff', 'check') },
];

const MYPY: Tool = { name: 'mypy: types', command: pythonTool('mypy'), cwd: SIDECAR };

// Ended by a signal, Node runs no exit handlers, and they are what ends the tools.
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.once(signal, () => process.exit(130));

const patterns = process.argv.slice(2);
const reports = await mkdtemp(join(tmpdir(), 'zeroscribe-tests-'));
const counts: Counts[] = [];
try {
  const isWhole = patterns.length === 0;
  if (isWhole) counts.push(...(await Promise.all(CHECKS.map(check))));
  const python = async (): Promise<Counts> => sum([isWhole ? await check(MYPY) : NONE, await pytest()]);
  counts.push(...(await Promise.all([jest(), python()])));
} finally {
  await rm(reports, { recursive: true });
}

const total = sum(counts);
if (patterns.length > 0 && total.passed + total.failed + total.skipped === 0) {
  console.log(`No test file has ${patterns.join(' or ')} in its path.`);
  process.exitCode = 1;
}
if (total.failed > 0) process.exitCode = 1;
console.log(`\n${closingLine(total)}`);

/** Counts as one test. */
async function check(tool: Tool): Promise<Counts> {
  const result = await run(tool, { timeoutMs: CHECK_TIMEOUT_MS });
  report(tool.name, result, result.exitCode !== 0);
  return result.exitCode === 0 ? PASSED : FAILED;
}

async function jest(): Promise<Counts> {
  const reportFile = join(reports, 'jest.json');
  const args = ['--json', `--outputFile=${reportFile}`, '--passWithNoTests', ...patterns];
  // Each of the hundreds of processes of ours that the tests start would compile the same modules again.
  const result = await run(
    { name: 'jest', command: nodeTool('jest/bin/jest.js', ...args) },
    {
      env: { NODE_OPTIONS: nodeOptions(), NODE_COMPILE_CACHE: join(reports, 'compiled') },
      timeoutMs: TESTS_TIMEOUT_MS,
      live: true,
    },
  );
  report('jest', result, false);
  return countsOf(result, reportFile, jestCounts);
}

async function pytest(): Promise<Counts> {
  const files: string[] = [];
  for await (const file of glob('**/test_*.py', { cwd: SIDECAR })) {
    if (patterns.length === 0 || patterns.some((pattern) => join(SIDECAR, file).includes(pattern)))
      files.push(file);
  }
  if (files.length === 0) return NONE;
  const reportFile = join(reports, 'pytest.xml');
  const result = await run(
    {
      name: 'pytest',
      command: pythonTool('pytest', `--junit-xml=${reportFile}`, ...files.sort()),
      cwd: SIDECAR,
    },
    {
      env: { HF_HUB_OFFLINE: '1', PYANNOTE_METRICS_ENABLED: '0', ...KEEPS_LARGE_BLOCKS },
      timeoutMs: TESTS_TIMEOUT_MS,
    },
  );
  report('pytest', result, true);
  return countsOf(result, reportFile, pytestCounts);
}

/** A runner that failed without naming a failed test has failed itself. */
function countsOf(result: Run, reportFile: string, read: (report: string) => Counts): Counts {
  if (!existsSync(reportFile)) return result.exitCode === 0 ? NONE : FAILED;
  const found = read(readFileSync(reportFile, 'utf8'));
  return result.exitCode !== 0 && found.failed === 0 ? sum([found, FAILED]) : found;
}

function report(name: string, { exitCode, output, seconds }: Run, withOutput: boolean): void {
  if (withOutput) process.stdout.write(`\n${output.trimEnd()}\n`);
  console.log(`${exitCode === 0 ? 'ok    ' : 'FAILED'} ${name} (${seconds.toFixed(1)} s)`);
}

function nodeOptions(): string {
  const needed = ['--experimental-vm-modules', '--disable-warning=ExperimentalWarning'];
  return [process.env.NODE_OPTIONS ?? '', ...needed].join(' ').trim();
}
