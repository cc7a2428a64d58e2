import type { Records, StoredRecord } from '../../core/records/records.ts';

/** The same records, as if nothing had been written for so long. */
export function agedRecords(records: Records, ms: number): Records {
  const older = (stored: StoredRecord): StoredRecord => ({ ...stored, ageMs: stored.ageMs + ms });
  return {
    create: (...args) => records.create(...args),
    replace: (...args) => records.replace(...args),
    delete: (key) => records.delete(key),
    read: async (key) => {
      const stored = await records.read(key);
      return stored === undefined ? undefined : older(stored);
    },
    list: async (query) => {
      const page = await records.list(query);
      return { ...page, records: page.records.map(older) };
    },
  };
}
