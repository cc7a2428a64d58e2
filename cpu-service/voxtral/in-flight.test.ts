import { afterEach, expect, test } from '@jest/globals';
import {
  Interrupted,
  JobCanceled,
  type JobSession,
  LeaseLost,
  TimeIsUp,
} from '../../core/tasks/job-session.ts';
import { waitFor } from '../../tests/support/wait-for.ts';
import { InFlight } from './in-flight.ts';

const LONG_MS = 100_000;
let inFlight: InFlight | undefined;
afterEach(() => inFlight?.[Symbol.dispose]());

/** A session that hears of its end, and counts how often its job was kept. */
function watch(grace: { timeIsUpMs: number; interruptedMs: number }) {
  const abort = new AbortController();
  const state = { kept: 0, failed: 0, cancel_requested: false, failure: undefined as Error | undefined };
  const session = {
    signal: abort.signal,
    record: state,
    update: async () => {
      if (state.failure !== undefined) {
        state.failed += 1;
        throw state.failure;
      }
      state.kept += 1;
    },
  };
  inFlight = new InFlight(session as unknown as JobSession, grace, 5);
  return { abort, state, signal: inFlight.signal };
}

test.each([new JobCanceled('x'), new LeaseLost('x')])('nobody wants the answers after %p', (reason) => {
  const { abort, signal } = watch({ timeIsUpMs: LONG_MS, interruptedMs: LONG_MS });
  abort.abort(reason);
  expect(signal.aborted).toBe(true);
});

test.each([new TimeIsUp('x'), new Interrupted('x')])(
  'the job is kept while they are waited for after %p',
  async (reason) => {
    const { abort, state, signal } = watch({ timeIsUpMs: LONG_MS, interruptedMs: LONG_MS });
    abort.abort(reason);
    await waitFor('the lease to be renewed twice', () => state.kept >= 2);
    state.failure = new Error('the store is away for a moment');
    await waitFor('it to fail twice', () => state.failed >= 2);
    expect(signal.aborted).toBe(false);
    state.failure = undefined;
    const { kept } = state;
    await waitFor('it to be renewed again', () => state.kept > kept);
    inFlight?.[Symbol.dispose]();
  },
);

test.each<[string, (state: { cancel_requested: boolean; failure: Error | undefined }) => void]>([
  ['the user cancels', (state) => (state.cancel_requested = true)],
  ['the job is lost', (state) => (state.failure = new LeaseLost('x'))],
])('they are waited for no more when %s', async (_, happen) => {
  const { abort, state, signal } = watch({ timeIsUpMs: LONG_MS, interruptedMs: LONG_MS });
  abort.abort(new TimeIsUp('x'));
  happen(state);
  await waitFor('the end', () => signal.aborted);
});

test('they are waited for only so long', async () => {
  const { abort, signal } = watch({ timeIsUpMs: 10, interruptedMs: LONG_MS });
  abort.abort(new TimeIsUp('x'));
  await waitFor('the end', () => signal.aborted);
});
