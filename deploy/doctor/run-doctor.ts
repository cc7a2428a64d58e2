import { readFile } from 'node:fs/promises';
import { createInterface } from 'node:readline/promises';
import { text as readAll } from 'node:stream/consumers';
import { interruption } from '../../cli/interruption.ts';
import { print } from '../../cli/stdout.ts';
import { UsageError } from '../../cli/usage-error.ts';
import { NoProject, openProject } from '../deployment.ts';
import { type Environment, loadEnvironment } from '../environment.ts';
import { explain, explainInWords } from '../explain.ts';
import { type Gcloud, GcloudError, type GcloudOptions } from '../gcloud.ts';
import { imageTags } from '../images.ts';
import { type Layout, layOut } from '../layout.ts';
import type { Facts } from './facts.ts';
import { gatherFacts } from './gather-facts.ts';
import { countOf, examine, fixesOf, type Report, reportText, summary } from './report.ts';

/** What was found is printed already. Exit code 1. */
export class ProblemsFound extends Error {
  override readonly name = 'ProblemsFound';
}

export interface DoctorOptions {
  /** Run the commands that may be run, after asking. */
  isFixing: boolean;
  /** Do not ask. */
  isConfirmed: boolean;
}

/** `deploy doctor`. @throws {ProblemsFound} */
export async function runDoctor(name: string, { isFixing, isConfirmed }: DoctorOptions): Promise<void> {
  const environment = await loadEnvironment(name);
  const options = { signal: interruption() };
  const place = await openPlace(environment, options);
  let report = await examination(place, environment, options);
  await print(`${headline(place.layout)}\n\n${reportText(report)}`);
  if (isFixing && (await fix(place.gcloud, report, isConfirmed))) {
    report = await examination(place, environment, options);
    await print(`\nAfter that:\n\n${reportText(report)}`);
  }
  if (countOf(report, 'problem') > 0) throw new ProblemsFound(summary(report));
}

/** `deploy doctor --explain`: without an account, without asking anybody. @throws {ProblemsFound} when it is unknown */
export async function runExplain(name: string, path: string): Promise<void> {
  const { region, project, bucket } = await loadEnvironment(name);
  const text = path === '-' ? await readAll(process.stdin) : await readText(path);
  if (text.trim() === '') throw new UsageError('There is no error to explain: the input is empty.');
  const values = { region, project, bucket };
  await print(`${explainInWords(text, values)}\n`);
  if (explain(text, values) === undefined) throw new ProblemsFound('This error is unknown.');
}

interface Place {
  gcloud: Gcloud;
  layout: Layout;
}

async function openPlace(environment: Environment, options: GcloudOptions): Promise<Place> {
  try {
    return await openProject(environment, { env: process.env, gcloud: options });
  } catch (error) {
    if (!(error instanceof NoProject)) throw error;
    const said = error.cause instanceof GcloudError ? error.cause.output : undefined;
    throw new ProblemsFound(
      said === undefined ? error.message : `${error.message}\n\n${said.trim()}\n\n${explainInWords(said)}`,
    );
  }
}

async function examination(
  { gcloud, layout }: Place,
  environment: Environment,
  { signal }: { signal: AbortSignal },
): Promise<Report> {
  process.stderr.write('Looking …\n');
  const facts = await gatherFacts(gcloud, layout, { signal });
  // What an image is called follows from what is built into it.
  const tags = imageTags(environment, hasHfToken(environment, facts));
  return examine(facts, layOut(environment, layout.project, tags));
}

function hasHfToken({ secrets: { hfToken } }: Environment, { secrets }: Facts): boolean {
  if (hfToken === undefined) return false;
  const value = secrets.isSeen ? secrets.value.get(hfToken)?.hasValue : undefined;
  return (value?.isSeen && value.value) || (process.env.HF_TOKEN ?? '') !== '';
}

/** @returns whether anything was run */
async function fix(gcloud: Gcloud, report: Report, isConfirmed: boolean): Promise<boolean> {
  const fixes = fixesOf(report);
  if (fixes.length === 0) {
    process.stderr.write('There is nothing that can be put right by itself.\n');
    return false;
  }
  process.stderr.write(
    `\nThese put right what they can:\n${fixes.map(({ line }) => `  $ ${line}\n`).join('')}`,
  );
  if (!isConfirmed) await confirm(fixes.length);
  for (const { line, run } of fixes) {
    if (run === undefined) continue;
    process.stderr.write(`$ ${line}\n`);
    try {
      await gcloud.run(run);
    } catch (error) {
      if (!(error instanceof GcloudError)) throw error;
      // The others do not depend on it.
      process.stderr.write(`${error.output.trim()}\n${explainInWords(error.output)}\n`);
    }
  }
  return true;
}

/** @throws {UsageError} */
async function confirm(count: number): Promise<void> {
  if (!process.stdin.isTTY) throw new UsageError('Nobody can be asked here: --yes says that it is meant.');
  const questions = createInterface({ input: process.stdin, output: process.stderr });
  try {
    const answer = await questions.question(`Run ${count === 1 ? 'it' : `these ${count}`}? [y/N] `);
    if (!/^y(?:es)?$/i.test(answer.trim())) throw new UsageError('Nothing was changed.');
  } finally {
    questions.close();
  }
}

function headline({ environment, project, region }: Layout): string {
  return `${environment.name} in the project ${project.id}, ${region}`;
}

async function readText(path: string): Promise<string> {
  return await readFile(path, 'utf8').catch((error: NodeJS.ErrnoException) => {
    throw new UsageError(
      `${path} cannot be read (${error.code}). Give a file, or - for what comes by a pipe.`,
    );
  });
}
