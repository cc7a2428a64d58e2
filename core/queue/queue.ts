import type { Task } from '../tasks/task.ts';

/** The way from one service to the next: SQLite on one machine, Cloud Tasks in the cloud. Delivers at least once. */
export interface Queue {
  /**
   * Resolves once the task will survive a crash of this process. A name that is in use, or was until a while ago
   * (finished and deleted tasks keep their name for an hour at least), is not enqueued again: that is success too.
   * Not delivered before `delayMs` have passed.
   */
  enqueue(task: Task, options?: { delayMs?: number }): Promise<'created' | 'exists'>;

  /** Whether the task still waits, or is being worked on. */
  has(ref: { queue: string; name: string }): Promise<boolean>;

  /** Takes a task back that nobody works on yet. Nothing by that name is success too. */
  delete(ref: { queue: string; name: string }): Promise<void>;
}
