import { expect, test } from '@jest/globals';
import { closingLine, jestCounts, pytestCounts, sum } from './test-counts.ts';

test('a Jest file that could not be loaded counts as a failure', () => {
  const report = {
    numPassedTests: 7,
    numFailedTests: 1,
    numPendingTests: 2,
    numTodoTests: 1,
    numRuntimeErrorTestSuites: 1,
  };
  expect(jestCounts(JSON.stringify(report))).toEqual({ passed: 7, failed: 2, skipped: 3 });
});

test('pytest counts errors among its failures, and what it skipped not among what passed', () => {
  const report =
    '<?xml version="1.0"?><testsuites name="pytest tests"><testsuite name="pytest" errors="1" failures="2" skipped="3" tests="10" time="1.2"><testcase name="tests" /></testsuite></testsuites>';
  expect(pytestCounts(report)).toEqual({ passed: 4, failed: 3, skipped: 3 });
});

test('the closing line adds everything up, and mentions skipped tests only if there are any', () => {
  const all = [
    { passed: 3, failed: 0, skipped: 0 },
    { passed: 4, failed: 1, skipped: 0 },
  ];
  expect(closingLine(sum(all))).toBe('7 passed, 1 failed');
  expect(closingLine(sum([...all, { passed: 0, failed: 0, skipped: 2 }]))).toBe(
    '7 passed, 1 failed, 2 skipped',
  );
});
