// `node setup/run.mjs [SCRIPT.ts ARGS… | --models NAMES]`: sets up what is missing, then runs the script with Node 24.
// Kept to what any Node can read, so that an old one gets a sentence and not a syntax error.
import { requireNode } from './require-node.mjs';

requireNode();
const [first, ...rest] = process.argv.slice(2);

/** @param {string | undefined} message */
const fail = (message) => {
  process.stderr.write(`${message}\n`);
  process.exitCode = 1;
};

if (first === undefined) {
  import('./start.mjs').then(({ start }) => start({ args: [], models: process.env.CI ? 'none' : 'default' }));
} else if (first === '--models') {
  Promise.all([import('./start.mjs'), import('./models.mjs')]).then(([{ start }, { parseModelNames }]) => {
    try {
      return start({ args: [], models: parseModelNames(rest.join(',')) });
    } catch (error) {
      return fail(error instanceof Error ? error.message : String(error));
    }
  });
} else if (first.startsWith('-')) {
  fail(`There is no option ${first}: npm run setup takes --models NAME.`);
} else {
  // Tests, benchmarks and formatting work with the packaged model.
  import('./start.mjs').then(({ start }) => start({ script: first, args: rest, models: 'none' }));
}
