import { expect, test } from '@jest/globals';
import { createLog, type Logger } from './log.ts';

function capture(level?: string): { log: Logger; lines: Record<string, unknown>[] } {
  const lines: Record<string, unknown>[] = [];
  const destination = { write: (line: string) => lines.push(JSON.parse(line)) };
  const log = createLog('api', level === undefined ? { destination } : { level, destination });
  return { log, lines };
}

test('names the severities as Cloud Logging does', () => {
  const { log, lines } = capture('trace');
  for (const level of ['trace', 'debug', 'info', 'warn', 'error', 'fatal'] as const) log[level](level);
  expect(lines.map(({ message, severity }) => [message, severity])).toEqual([
    ['trace', 'DEBUG'],
    ['debug', 'DEBUG'],
    ['info', 'INFO'],
    ['warn', 'WARNING'],
    ['error', 'ERROR'],
    ['fatal', 'CRITICAL'],
  ]);
});

test('writes one JSON object per line with service, time and fields', () => {
  const { log, lines } = capture();
  log.info({ job: 'tr_1' }, 'two\nlines');
  expect(lines).toEqual([
    { severity: 'INFO', time: expect.any(String), service: 'api', job: 'tr_1', message: 'two\nlines' },
  ]);
  const time = String(lines[0]?.time);
  expect(new Date(time).toISOString()).toBe(time);
});

test('keeps the severities in child loggers', () => {
  const { log, lines } = capture();
  log.child({ job: 'tr_1' }).warn('x');
  expect(lines).toMatchObject([{ severity: 'WARNING', job: 'tr_1', message: 'x' }]);
});

test('writes the stack of an error, and nothing below its level', () => {
  const { log, lines } = capture('warn');
  log.info('not this');
  log.error({ err: new Error('broken') }, 'failed');
  expect(lines).toMatchObject([{ message: 'failed', err: { message: 'broken' } }]);
  expect(lines).toMatchObject([{ err: { stack: expect.stringContaining('log.test.ts') } }]);
});
