import { readdirSync, readFileSync } from 'node:fs';
import { isRunning } from './processes.ts';

/** The processes that this one started and that still run. Where there is no /proc nothing can be said: empty. */
export function childPids(): number[] {
  let pids: string[];
  try {
    pids = readdirSync('/proc').filter((name) => /^\d+$/.test(name));
  } catch {
    return [];
  }
  return pids.map(Number).filter((pid) => parentOf(pid) === process.pid && isRunning(pid));
}

function parentOf(pid: number): number | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    return Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[1]);
  } catch {
    return undefined;
  }
}
