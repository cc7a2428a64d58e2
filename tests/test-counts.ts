export interface Counts {
  passed: number;
  failed: number;
  skipped: number;
}

export function sum(all: Counts[]): Counts {
  const total = { passed: 0, failed: 0, skipped: 0 };
  for (const { passed, failed, skipped } of all) {
    total.passed += passed;
    total.failed += failed;
    total.skipped += skipped;
  }
  return total;
}

/** From `jest --json`. A file that cannot be loaded has no tests, and counts as one that failed. */
export function jestCounts(report: string): Counts {
  const results = JSON.parse(report) as Record<string, number>;
  const count = (name: string): number => results[name] ?? 0;
  return {
    passed: count('numPassedTests'),
    failed: count('numFailedTests') + count('numRuntimeErrorTestSuites'),
    skipped: count('numPendingTests') + count('numTodoTests'),
  };
}

/** From `pytest --junit-xml`. */
export function pytestCounts(report: string): Counts {
  const suites = report.match(/<testsuite\s[^>]*>/g) ?? [];
  return sum(
    suites.map((suite) => {
      const count = (name: string): number => Number(new RegExp(` ${name}="(\\d+)"`).exec(suite)?.[1] ?? 0);
      const failed = count('failures') + count('errors');
      const skipped = count('skipped');
      return { passed: Math.max(0, count('tests') - failed - skipped), failed, skipped };
    }),
  );
}

export function closingLine({ passed, failed, skipped }: Counts): string {
  return `${passed} passed, ${failed} failed${skipped > 0 ? `, ${skipped} skipped` : ''}`;
}
