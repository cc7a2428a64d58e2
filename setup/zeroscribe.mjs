#!/usr/bin/env node
// The command `zeroscribe`: sets up what is missing, then is cli/main.ts.
import { requireNode } from './require-node.mjs';

requireNode();
import('./start.mjs').then(({ start }) => {
  const args = process.argv.slice(2);
  // Another machine's service has its own models.
  const isRemote = args.some((arg) => arg === '--server' || arg.startsWith('--server='));
  const needsModel = (args[0] === 'transcribe' || args[0] === 'serve') && !isRemote && !process.env.CI;
  const [verb, subverb] = args;
  // The smoke test has a recording to send, which a Python package carries.
  const isTalkOnly = verb === 'jobs' || verb === 'economics' || (verb === 'deploy' && subverb !== 'smoke');
  return start({
    script: 'cli/main.ts',
    args,
    models: needsModel ? 'default' : 'none',
    needsPython: !isTalkOnly,
  });
});
