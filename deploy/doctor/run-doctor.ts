import { readFile } from 'node:fs/promises';
import { createInterface } from 'node:readline/promises';
import { text as readAll } from 'node:stream/consumers';
import { interruption } from '../../cli/interruption.ts';
import { print } from '../../cli/stdout.ts';
import { UsageError } from '../../cli/usage-error.ts';
import { NoProject, openProject } from '../deployment.ts';
import { type Environment, loadEnvironment } from '../environment.ts';
import { explain, explainInWords, withoutSecrets } from '../explain.ts';
import { type Gcloud, GcloudError, type GcloudOptions } from '../gcloud.ts';
import { imageTags } from '../images.ts';
import { type Layout, layOut } from '../layout.ts';
import type { Facts } from './facts.ts';
import type { FixCommand } from './finding.ts';
import { type GatherOptions, gatherFacts } from './gather-facts.ts';
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
  const signal = interruption();
  const place = await openPlace(environment, { signal });
  say('Looking …');
  let report = await examinePlace(place, { signal });
  await print(`${headline(place.layout)}\n\n${reportText(report)}`);
  if (isFixing) {
    const fixes = fixesOf(report);
    if (fixes.length === 0) say('There is nothing that can be put right by itself.');
    else {
      say(`\nThese put right what they can:\n${fixes.map(({ line }) => `  $ ${line}`).join('\n')}`);
      if (!isConfirmed) await confirm(fixes.length);
      await runFixes(place.gcloud, fixes, say);
      report = await examinePlace(place, { signal });
      await print(`\nAfter that:\n\n${reportText(report)}`);
    }
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

export interface Place {
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

/** Gathers the facts and looks at them. */
export async function examinePlace({ gcloud, layout }: Place, options: GatherOptions): Promise<Report> {
  const { environment, project } = layout;
  const facts = await gatherFacts(gcloud, layout, options);
  // What an image is called follows from what is built into it.
  return examine(facts, layOut(environment, project, imageTags(environment, hasHfToken(environment, facts))));
}

function hasHfToken({ secrets: { hfToken } }: Environment, { secrets }: Facts): boolean {
  if (hfToken === undefined) return false;
  const value = secrets.isSeen ? secrets.value.get(hfToken)?.hasValue : undefined;
  return (value?.isSeen && value.value) || (process.env.HF_TOKEN ?? '') !== '';
}

/** One after the other; what fails is explained, and the others do not depend on it. */
export async function runFixes(
  gcloud: Gcloud,
  fixes: readonly FixCommand[],
  tell: (line: string) => void,
): Promise<void> {
  for (const { line, run } of fixes) {
    if (run === undefined) continue;
    tell(`$ ${line}`);
    try {
      await gcloud.run(run);
    } catch (error) {
      if (!(error instanceof GcloudError)) throw error;
      tell(`${withoutSecrets(error.output.trim())}\n${explainInWords(error.output)}`);
    }
  }
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

function say(line: string): void {
  process.stderr.write(`${line}\n`);
}
