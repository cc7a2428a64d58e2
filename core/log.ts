import { type DestinationStream, type Logger, pino } from 'pino';

export type { Logger } from 'pino';

/** Cloud Logging's names for pino's levels (https://cloud.google.com/logging/docs/reference/v2/rest/v2/LogEntry#LogSeverity). */
const SEVERITIES: Record<string, string> = {
  trace: 'DEBUG',
  debug: 'DEBUG',
  info: 'INFO',
  warn: 'WARNING',
  error: 'ERROR',
  fatal: 'CRITICAL',
};

/** One JSON object per line, as Cloud Logging reads it. Never give it a token, a key or a request's headers. */
export function createLog(
  service: string,
  { level = 'info', destination }: { level?: string; destination?: DestinationStream } = {},
): Logger {
  const options = {
    level,
    base: { service },
    messageKey: 'message',
    timestamp: () => `,"time":"${new Date().toISOString()}"`,
    formatters: { level: (label: string) => ({ severity: SEVERITIES[label] ?? 'DEFAULT' }) },
  };
  return destination === undefined ? pino(options) : pino(options, destination);
}
