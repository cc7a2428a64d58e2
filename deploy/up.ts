import { setTimeout as sleep } from 'node:timers/promises';
import { UsageError } from '../cli/usage-error.ts';
import { commandLine, type Gcloud, GcloudError } from './gcloud.ts';
import type { Deployed } from './observe.ts';
import { planSteps } from './plan.ts';
import type { Change, StepContext } from './step.ts';
import { lacksMistralKey, mistralKeyNeeded } from './steps/create-secrets.ts';

export type Progress = (line: string) => void;

export interface UpOptions {
  say: Progress;
  /** Between two tries of what Google needs a moment for. */
  pauseMs?: number;
}

const PAUSE_MS = 10_000;
/** Three minutes in all. */
const MAX_TRIES = 19;
/** What is right and only comes too early: accounts, rights and APIs are known everywhere after a minute or so. */
const PASSING = [
  /Service account \S+ does not exist/i,
  /concurrent policy changes/i,
  /has not been used in project \S+ before or it is disabled/i,
  /\b(?:UNAVAILABLE|The service is currently unavailable)\b/i,
  /must have permission to read the image/i,
  /Permission 'iam\.service[aA]ccounts\.actAs' denied/,
  /does not have storage\.objects\.get access/,
  /wait at least a minute for the queue/,
];

/** A step that could not be done. Starting again goes on from it. */
export class StepFailed extends Error {
  override readonly name = 'StepFailed';
  override readonly cause: GcloudError;

  constructor(title: string, cause: GcloudError) {
    super(`Could not ${title}.`);
    this.cause = cause;
  }
}

/** @returns how many changes were made. @throws {StepFailed} @throws {UsageError} before anything is changed */
export async function up(
  context: StepContext & { deployed: Deployed; gcloud: Gcloud },
  { say, pauseMs = PAUSE_MS }: UpOptions,
): Promise<number> {
  if (lacksMistralKey(context)) throw new UsageError(mistralKeyNeeded(context.layout));
  const steps = planSteps(context);
  let made = 0;
  for (const [i, { title, changes }] of steps.entries()) {
    const at = `[${i + 1}/${steps.length}] ${title}`;
    if (changes.length === 0) {
      say(`${at}: as it should be`);
      continue;
    }
    say(`${at}:`);
    // All of them come to their end: what is half done is what is hard to go on from.
    const results = await Promise.allSettled(
      changes.map(async (change) => {
        await make(context.gcloud, change, { say, pauseMs });
        say(`  done: ${change.title}`);
      }),
    );
    made += results.filter(({ status }) => status === 'fulfilled').length;
    const failed = results.find((result) => result.status === 'rejected');
    if (failed !== undefined) throw failed.reason;
  }
  return made;
}

async function make(gcloud: Gcloud, { title, commands }: Change, { say, pauseMs = 0 }: UpOptions) {
  let isWaiting = false;
  for (let i = 0, before = '', tries = 1; i < commands.length; ) {
    const command = commands[i];
    if (command === undefined) return;
    try {
      const output = await gcloud.run(command, before);
      if (command.until?.(output, before) === false) {
        if (!isWaiting) say(`  under way: ${title}\n    (to look at it: ${commandLine(command)})`);
        isWaiting = true;
        await sleep(pauseMs);
      } else {
        before = output;
        i += 1;
      }
    } catch (error) {
      if (!(error instanceof GcloudError)) throw error;
      if (tries >= MAX_TRIES || !PASSING.some((text) => text.test(error.output))) {
        throw new StepFailed(title, error);
      }
      tries += 1;
      say(`  waiting for Google: ${title}`);
      await sleep(pauseMs);
      // A policy is changed as it was read, so it is read again.
      if (command.args.includes('set-iam-policy')) i -= 1;
    }
  }
}
