import { relative } from 'node:path';
import TestSequencer from '@jest/test-sequencer';

/** Those that take longest, in this order. Jest knows by itself only after a first run, and in a fresh clone there was none. */
const LONGEST = [
  'tests/e2e/cloud.test.ts',
  'tests/e2e/deploy.test.ts',
  'tests/e2e/formats.test.ts',
  'tests/e2e/backends.test.ts',
  'tests/e2e/crash.test.ts',
  'tests/e2e/doctor.test.ts',
  'tests/e2e/transcription.test.ts',
  'tests/e2e/tracks.test.ts',
  'tests/e2e/bad-input.test.ts',
  'tests/e2e/upload.test.ts',
  'tests/e2e/sources.test.ts',
  'tests/smoke/smoke.test.ts',
  'tests/chaos/chaos.test.ts',
  'tests/fuzz/fuzz.test.ts',
];

/** A long file that begins last keeps one of two workers busy while the other has nothing left to do. */
export default class LongestFirst extends TestSequencer {
  /** @override @param {import('@jest/test-result').Test[]} tests */
  sort(tests) {
    const place = (/** @type {import('@jest/test-result').Test} */ { path, context }) => {
      const index = LONGEST.indexOf(relative(context.config.rootDir, path).replaceAll('\\', '/'));
      return index < 0 ? LONGEST.length : index;
    };
    return [...super.sort(tests)].sort((one, other) => place(one) - place(other));
  }
}
