import type { Layout } from '../../layout.ts';
import type { DeployedQueue } from '../../observe.ts';
import { queueRate, queueSizes } from '../../steps/create-queues.ts';
import { type Check, type Finding, ifSeen, notYet, ok, problem, warning } from '../finding.ts';
import { fixing } from '../fix-commands.ts';

/** About a cold start: sooner, a call meets no instance again. */
const LEAST_BACKOFF_S = 10;
/** Reconcile leaves a job alone whose task is in a queue, so this is the longest a healthy job waits after bad luck. */
const MOST_BACKOFF_S = 300;

export const checkQueues: Check = {
  title: 'queues',
  look: ({ queues }, layout) =>
    ifSeen('The queues', queues, (there) =>
      [...queueSizes(layout)].flatMap(([name, size]) => {
        const queue = there.get(name);
        if (queue === undefined) return [notYet(name)];
        const wrong = findingsOf(layout, name, queue, size);
        return wrong.length > 0 ? wrong : [ok(`${name}: ${size} at a time, tried again without end`)];
      }),
    ),
};

function findingsOf(
  layout: Layout,
  name: string,
  { state, rateLimits = {}, retryConfig = {} }: DeployedQueue,
  size: number,
): Finding[] {
  const update = (...flags: string[]) => [
    fixing(layout, 'tasks', 'queues', 'update', name, `--location=${layout.region}`, ...flags),
  ];
  const findings: Finding[] = [];
  if (state === 'PAUSED' || state === 'DISABLED') {
    findings.push(
      problem(`${name} is ${state.toLowerCase()}`, {
        why: 'Its tasks are kept and nothing is done.',
        fix: 'Let it go on.',
        commands: [fixing(layout, 'tasks', 'queues', 'resume', name, `--location=${layout.region}`)],
      }),
    );
  }
  const most = rateLimits.maxConcurrentDispatches ?? 1_000;
  if (most > size) {
    findings.push(
      problem(`${name} brings ${most} tasks at a time, and there can be instances for ${size}`, {
        why: 'The others meet no instance: Cloud Run answers 429, for which Cloud Tasks slows the whole queue down.',
        fix: 'Let it bring as many as can be taken.',
        commands: update(`--max-concurrent-dispatches=${size}`),
      }),
    );
  } else if (most < size) {
    findings.push(
      warning(`${name} brings ${most} tasks at a time, and there can be instances for ${size}`, {
        why: 'Some of them never get work.',
        fix: 'Let it bring as many as can be taken.',
        commands: update(`--max-concurrent-dispatches=${size}`),
      }),
    );
  }
  const rate = queueRate(layout, name);
  const { maxDispatchesPerSecond = rate } = rateLimits;
  if (maxDispatchesPerSecond > rate) {
    findings.push(
      warning(`${name} brings ${maxDispatchesPerSecond} tasks a second`, {
        why: 'Mistral turns requests away that come faster than the account may make them.',
        fix: 'Let it bring one after the other.',
        commands: update(`--max-dispatches-per-second=${rate}`),
      }),
    );
  }
  const { maxAttempts = 100, maxRetryDuration = '0s' } = retryConfig;
  if (maxAttempts !== -1 || seconds(maxRetryDuration) !== 0) {
    findings.push(
      problem(`${name} gives tasks up`, {
        why: 'A task is dropped without a word after so many tries, those that met no instance among them. The record of a job counts its attempts.',
        fix: 'Let it try without end.',
        commands: update('--max-attempts=-1', '--max-retry-duration=0s'),
      }),
    );
  }
  const { minBackoff = '0.1s', maxBackoff = '3600s' } = retryConfig;
  if (seconds(minBackoff) < LEAST_BACKOFF_S || seconds(maxBackoff) > MOST_BACKOFF_S) {
    findings.push(
      warning(`${name} waits ${minBackoff} to ${maxBackoff} between tries`, {
        why: 'Sooner than a cold start takes, a call meets no instance again; later than five minutes, a healthy job waits for nothing.',
        fix: `Let it wait ${LEAST_BACKOFF_S} s to ${MOST_BACKOFF_S} s.`,
        commands: update(
          `--min-backoff=${LEAST_BACKOFF_S}s`,
          `--max-backoff=${MOST_BACKOFF_S}s`,
          '--max-doublings=5',
        ),
      }),
    );
  }
  return findings;
}

function seconds(text: string): number {
  return Number.parseFloat(text);
}
