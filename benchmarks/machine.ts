import { availableParallelism, cpus, loadavg, totalmem } from 'node:os';

export type MachineFacts = Record<string, string | number>;

/** What a reader must know to compare the figures with their own. */
export function machineFacts(): MachineFacts {
  return {
    date: new Date().toISOString(),
    cpu: cpus()[0]?.model ?? 'unknown',
    cores: availableParallelism(),
    memory_gib: Math.round(totalmem() / 2 ** 30),
    load: Number((loadavg()[0] ?? 0).toFixed(1)),
    node: process.version,
  };
}
