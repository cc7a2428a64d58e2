import { availableParallelism, cpus, totalmem } from 'node:os';

/** What a reader must know to compare the figures with their own. */
export function machineFacts(): Record<string, string | number> {
  return {
    date: new Date().toISOString(),
    cpu: cpus()[0]?.model ?? 'unknown',
    cores: availableParallelism(),
    memory_gib: Math.round(totalmem() / 2 ** 30),
    node: process.version,
  };
}
