/** A small JSON document that several processes change by compare-and-set. */
export interface StoredRecord {
  key: string;
  value: unknown;
  /** Changes with every write; give it back to `replace` to say which version was meant. */
  generation: string;
  /** How long ago the last write was, by the store's own clock: leases never trust the clock of a worker. */
  ageMs: number;
}

/** Somebody else wrote (or deleted) the record since it was read. Read it again, merge, try again. */
export class RecordConflict extends Error {
  override readonly name = 'RecordConflict';
  readonly key: string;
  constructor(key: string, options?: ErrorOptions) {
    super(`the record ${key} has changed meanwhile`, options);
    this.key = key;
  }
}

/** Where job records, markers, idempotency keys and capabilities live: SQLite, or objects in a bucket. */
export interface Records {
  /**
   * Creates the record if there is none.
   * @returns its generation
   * @throws {RecordConflict} when there is one already
   */
  create(key: string, value: unknown, options?: { label?: string }): Promise<string>;

  /** Reads its own writes, and those of every process that were finished before the call. */
  read(key: string): Promise<StoredRecord | undefined>;

  /**
   * Replaces the version that `generation` names.
   * @returns the new generation
   * @throws {RecordConflict} when that version is no longer the current one
   */
  replace(key: string, value: unknown, generation: string, options?: { label?: string }): Promise<string>;

  /** Nothing at the key is success too. */
  delete(key: string): Promise<void>;

  /**
   * In the order of the keys, only those that begin with `prefix`, come after `after` and carry `label` (if given).
   * `label` is the one word a record can be filtered by; for jobs it is the status.
   */
  list(query: {
    prefix: string;
    after?: string;
    limit: number;
    label?: string;
  }): Promise<{ records: StoredRecord[]; hasMore: boolean }>;
}
