import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import * as objects from './objects.ts';
import { JOB_ID, type JobRef, jobIdTime, newJobId, OWNER, parseActiveKey } from './objects.ts';

const YEAR_2100_MS = Date.UTC(2100, 0);
const owner = fc.stringMatching(/^[a-z0-9-]{1,63}$/);
const job: fc.Arbitrary<JobRef> = fc.record({ owner, id: fc.nat(YEAR_2100_MS).map((ms) => newJobId(ms)) });

describe('newJobId', () => {
  test('sorts the newest first', () => {
    fc.assert(
      fc.property(fc.nat(YEAR_2100_MS), fc.integer({ min: 1, max: 1_000_000 }), (ms, laterByMs) => {
        expect(newJobId(ms + laterByMs) < newJobId(ms)).toBe(true);
      }),
    );
  });

  test('has one form, whenever it is made', () => {
    fc.assert(fc.property(fc.nat(YEAR_2100_MS), (ms) => JOB_ID.test(newJobId(ms))));
    expect(newJobId()).toHaveLength(22);
  });

  test('says when it was made', () => {
    fc.assert(fc.property(fc.nat(YEAR_2100_MS), (ms) => jobIdTime(newJobId(ms)) === ms));
  });

  test('does not repeat itself within a millisecond', () => {
    const ids = Array.from({ length: 5_000 }, () => newJobId(0));
    expect(new Set(ids).size).toBe(ids.length);
  });

  test.each([
    '',
    'tr_',
    'tr_0123456789abcdefgh',
    `tr_${'u'.repeat(19)}`,
    `x${newJobId()}`,
    `${newJobId()}\n`,
  ])('is told from %j, which is no id', (id) => {
    expect(JOB_ID.test(id)).toBe(false);
  });
});

test.each(['', 'A', 'a/b', '..', 'a'.repeat(64), 'a\n'])('%j is no owner', (name) => {
  expect(OWNER.test(name)).toBe(false);
});

test('every key is made of plain segments, so that no store can misread it', () => {
  fc.assert(
    fc.property(job, fc.nat(1_000), fc.nat(100_000), (ref, epoch, part) => {
      for (const key of keysOf(ref, epoch, part)) {
        expect(key).toMatch(/^[a-zA-Z0-9_-][a-zA-Z0-9._-]*(\/[a-zA-Z0-9_-][a-zA-Z0-9._-]*)*$/);
      }
    }),
  );
});

test('keys of different jobs, epochs and kinds differ', () => {
  const refs = [
    { owner: 'a', id: newJobId() },
    { owner: 'b', id: newJobId() },
  ];
  const keys = refs.flatMap((ref) => [1, 11].flatMap((epoch) => keysOf(ref, epoch, 1).slice(3)));
  expect(new Set(keys).size).toBe(keys.length);
});

test('a prefix covers the keys of its own job and of no other', () => {
  fc.assert(
    fc.property(job, job, fc.nat(1_000), (one, other, epoch) => {
      fc.pre(one.id !== other.id);
      const pairs: [string, (ref: JobRef) => string[]][] = [
        [objects.mediaPrefix(one), mediaKeys],
        [objects.transcriptPrefix(one), (ref) => [objects.transcriptKey(ref, epoch)]],
        [objects.workPrefix(one), workKeys],
      ];
      for (const [prefix, keys] of pairs) {
        for (const key of keys(one)) expect(key.startsWith(prefix)).toBe(true);
        for (const key of keys(other)) expect(key.startsWith(prefix)).toBe(false);
      }
      expect(objects.jobKey(one).startsWith(objects.jobPrefix(one.owner))).toBe(true);

      function mediaKeys(ref: JobRef) {
        return [
          objects.mediaKey(ref),
          objects.takenOverMediaKey(ref, one),
          objects.audioKey(ref, epoch),
          objects.playbackKey(ref, epoch),
        ];
      }
      function workKeys(ref: JobRef) {
        return [
          objects.checkpointKey(ref, epoch, 'diarize'),
          objects.checkpointPartKey(ref, epoch, 'align', 3),
        ];
      }
    }),
  );
});

test('the marker of an active job tells which job it is', () => {
  fc.assert(
    fc.property(job, (ref) => {
      const key = objects.activeKey(ref);
      expect(key.startsWith(objects.ACTIVE_PREFIX)).toBe(true);
      expect(parseActiveKey(key)).toEqual(ref);
    }),
  );
  expect(parseActiveKey('active/')).toBeUndefined();
  expect(parseActiveKey('active/owner')).toBeUndefined();
});

/** The first three do not depend on the epoch. */
function keysOf(ref: JobRef, epoch: number, part: number): string[] {
  return [
    objects.jobKey(ref),
    objects.activeKey(ref),
    objects.mediaKey(ref),
    objects.audioKey(ref, epoch),
    objects.playbackKey(ref, epoch),
    objects.transcriptKey(ref, epoch),
    objects.checkpointKey(ref, epoch, 'detect-speech'),
    objects.checkpointPartKey(ref, epoch, 'transcribe', part),
  ];
}
