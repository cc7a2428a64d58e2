import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { waitFor } from '../../tests/support/wait-for.ts';
import { RecordConflict, type Records } from './records.ts';

export interface RecordsUnderTest {
  /** Two ways to the same records, as two processes have them. */
  records: Records;
  others: Records;
  /** How far an age may be off: where times are whole seconds, 1000. Default 0. */
  ageToleranceMs?: number;
  dispose(): Promise<void>;
}

/** What every store of records promises. `makeStore` gives an empty one. */
export function describeRecords(name: string, makeStore: () => Promise<RecordsUnderTest>): void {
  describe(`${name} as records`, () => {
    let store: RecordsUnderTest;
    let records: Records;
    let others: Records;

    beforeEach(async () => {
      store = await makeStore();
      ({ records, others } = store);
    });
    afterEach(() => store.dispose());

    test('gives back what was created, to everybody and at once', async () => {
      const value = { text: 'ümlaut "quoted"', numbers: [1.5, -0.1, null], nested: { yes: true } };
      const generation = await records.create('jobs/a/1', value);
      for (const reader of [records, others]) {
        const stored = await reader.read('jobs/a/1');
        expect(stored).toEqual({ key: 'jobs/a/1', value, generation, ageMs: expect.any(Number) });
      }
      expect(await records.read('jobs/a')).toBeUndefined();
      expect(await records.read('jobs/a/2')).toBeUndefined();
    });

    test('creates a record only where there is none', async () => {
      await records.create('a', 1);
      await expect(others.create('a', 2)).rejects.toBeInstanceOf(RecordConflict);
      await expect(others.create('a', 2)).rejects.toMatchObject({ key: 'a' });
      expect(await records.read('a')).toMatchObject({ value: 1 });
    });

    test('lets exactly one of many creators win', async () => {
      const tries = Array.from({ length: 10 }, (_, i) => (i % 2 ? records : others).create('a', i));
      const results = await Promise.allSettled(tries);
      const winners = results.flatMap((result, i) => (result.status === 'fulfilled' ? [i] : []));
      expect(winners).toHaveLength(1);
      expect(await records.read('a')).toMatchObject({ value: winners[0] });
    });

    test('replaces the version that was meant', async () => {
      const first = await records.create('a', 1);
      const second = await others.replace('a', 2, first);
      expect(second).not.toBe(first);
      expect(await records.read('a')).toMatchObject({ value: 2, generation: second });
    });

    test('replaces nothing when the version that was meant is gone', async () => {
      const first = await records.create('a', 1);
      const second = await others.replace('a', 2, first);
      await expect(records.replace('a', 3, first)).rejects.toBeInstanceOf(RecordConflict);
      await expect(records.replace('b', 3, first)).rejects.toBeInstanceOf(RecordConflict);
      expect(await records.read('a')).toMatchObject({ value: 2, generation: second });
      expect(await records.read('b')).toBeUndefined();
    });

    test('does not take a record that was made anew for the one it was', async () => {
      const first = await records.create('a', 1);
      await others.delete('a');
      await expect(records.replace('a', 2, first)).rejects.toBeInstanceOf(RecordConflict);
      await others.create('a', 1);
      await expect(records.replace('a', 2, first)).rejects.toBeInstanceOf(RecordConflict);
      expect(await records.read('a')).toMatchObject({ value: 1 });
    });

    test('lets exactly one of two that race replace a version', async () => {
      let generation = await records.create('a', 'start');
      for (let round = 0; round < 10; round++) {
        const results = await Promise.allSettled([
          records.replace('a', `one ${round}`, generation),
          others.replace('a', `other ${round}`, generation),
        ]);
        const won = results.filter((result) => result.status === 'fulfilled');
        expect(won).toHaveLength(1);
        const stored = await records.read('a');
        expect(stored?.generation).toBe(won[0]?.value);
        generation = stored?.generation ?? '';
      }
    });

    test('loses no increment of many at once', async () => {
      await records.create('count', 0);
      const increments = Array.from({ length: 12 }, (_, i) => increment(i % 2 ? records : others, 'count'));
      await Promise.all(increments);
      expect(await records.read('count')).toMatchObject({ value: 12 });
    });

    test('counts the age of a record from its last write', async () => {
      const generation = await records.create('a', 1);
      const aWhileMs = 50 + (store.ageToleranceMs ?? 0);
      await waitFor('age', async () => ((await records.read('a'))?.ageMs ?? 0) >= aWhileMs);
      const [listed] = (await others.list({ prefix: 'a', limit: 1 })).records;
      expect(listed?.ageMs).toBeGreaterThanOrEqual(aWhileMs);
      expect(listed?.ageMs).toBeLessThan(60_000);
      await others.replace('a', 1, generation);
      const age = (await records.read('a'))?.ageMs;
      expect(age).toBeLessThan(listed?.ageMs ?? 0);
      expect(age).toBeGreaterThanOrEqual(0);
    });

    test('deletes a record; nothing there is success too', async () => {
      await records.create('a', 1);
      await records.create('ab', 1);
      await others.delete('a');
      await others.delete('a');
      expect(await records.read('a')).toBeUndefined();
      expect(await records.read('ab')).toMatchObject({ value: 1 });
    });

    describe('list', () => {
      test('gives what begins with the prefix, in the order of the keys', async () => {
        const keys = ['b/z', 'a', 'b-c', 'b/a/deep', 'b/a1', 'b0', 'c%', 'c_', 'bB', 'b/zz'];
        for (const key of keys) await records.create(key, key);
        for (const prefix of ['', 'b', 'b/', 'b/a', 'c_', 'd/']) {
          const { records: found, hasMore } = await others.list({ prefix, limit: 100 });
          expect(found.map((record) => record.key)).toEqual(keys.filter((k) => k.startsWith(prefix)).sort());
          expect(hasMore).toBe(false);
          for (const record of found)
            expect(record).toEqual({ ...(await readAs(record)), value: record.key });
        }
        async function readAs({ key, ageMs }: { key: string; ageMs: number }) {
          return { ...(await records.read(key)), ageMs };
        }
      });

      test('filters by label, which every write sets anew', async () => {
        const generation = await records.create('a/1', 1, { label: 'queued' });
        await records.create('a/2', 2, { label: 'queued' });
        await records.create('a/3', 3);
        await records.create('b/1', 4, { label: 'queued' });
        expect(await keysWith('queued')).toEqual(['a/1', 'a/2']);
        const next = await records.replace('a/1', 1, generation, { label: 'completed' });
        expect(await keysWith('queued')).toEqual(['a/2']);
        expect(await keysWith('completed')).toEqual(['a/1']);
        await records.replace('a/1', 1, next);
        expect(await keysWith('completed')).toEqual([]);
        async function keysWith(label: string) {
          const { records: found } = await others.list({ prefix: 'a/', limit: 10, label });
          return found.map((record) => record.key);
        }
      });

      test('comes page by page, with nothing twice and nothing left out', async () => {
        const keys = Array.from({ length: 7 }, (_, i) => `p/${i}`);
        for (const [i, key] of keys.entries())
          await records.create(key, i, { label: i % 2 ? 'odd' : 'even' });
        await records.create('o', 0, { label: 'odd' });
        await records.create('q', 0, { label: 'odd' });
        await fc.assert(
          fc.asyncProperty(
            fc.integer({ min: 1, max: 9 }),
            fc.constantFrom(undefined, 'odd'),
            async (limit, label) => {
              const wanted = keys.filter((_, i) => label === undefined || i % 2 === 1);
              const found: string[] = [];
              for (let hasMore = true; hasMore; ) {
                const after = found.at(-1);
                const page = await others.list({
                  prefix: 'p/',
                  limit,
                  ...(after === undefined ? {} : { after }),
                  ...(label === undefined ? {} : { label }),
                });
                expect(page.records.length).toBeLessThanOrEqual(limit);
                found.push(...page.records.map((record) => record.key));
                ({ hasMore } = page);
                expect(hasMore).toBe(found.length < wanted.length);
              }
              expect(found).toEqual(wanted);
            },
          ),
          { numRuns: 20 },
        );
      });

      test('goes on after a key that is gone, or never was', async () => {
        for (const key of ['p/1', 'p/3', 'p/5']) await records.create(key, key);
        await records.delete('p/3');
        const page = await records.list({ prefix: 'p/', after: 'p/3', limit: 10 });
        expect(page.records.map((record) => record.key)).toEqual(['p/5']);
        const before = await records.list({ prefix: 'p/', after: 'a', limit: 10 });
        expect(before.records.map((record) => record.key)).toEqual(['p/1', 'p/5']);
      });
    });
  });
}

/** As every user of records does it: read, change, replace; after a conflict again. */
async function increment(records: Records, key: string): Promise<void> {
  for (;;) {
    const stored = await records.read(key);
    if (stored === undefined) throw new Error(`there is no record ${key}`);
    try {
      await records.replace(key, Number(stored.value) + 1, stored.generation);
      return;
    } catch (error) {
      if (!(error instanceof RecordConflict)) throw error;
    }
  }
}
