import { SetupFailure } from '../../setup/failure.mjs';
import { Progress } from '../../setup/progress.mjs';

/** Where everything lies in an image, and while it is built. */
export const ROOT = '/app';

/**
 * A step of the build that works with the tools of set-up: prints what it does, and ends with a sentence where it cannot.
 * @param {(workshop: import('../../setup/run-tool.mjs').Workshop) => Promise<void>} step
 */
export async function buildStep(step) {
  const progress = new Progress();
  const logFile = '/tmp/build-step.log';
  try {
    await step({
      root: ROOT,
      env: process.env,
      progress,
      logFile,
      signal: new AbortController().signal,
      // Nothing else works in an image that is being built.
      lock: { add() {}, remove() {} },
    });
  } catch (error) {
    if (!(error instanceof SetupFailure)) throw error;
    process.stderr.write(`${error.message}\n`);
    process.exitCode = 1;
  } finally {
    progress.stop();
  }
}
