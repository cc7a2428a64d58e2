import { readFile } from 'node:fs/promises';
import { describe, expect, test } from '@jest/globals';
import { PROBLEM_SLUGS, PROBLEMS, problemSlug, ServiceError, toProblem, toServiceError } from './problem.ts';

describe('docs/errors.md', () => {
  test('explains every problem once, and no other', async () => {
    const headings = (await sections()).map(([slug]) => slug);
    expect(headings.toSorted()).toEqual(PROBLEM_SLUGS.toSorted());
  });

  test('gives each the status and the advice about trying again that the table has', async () => {
    for (const [slug, text] of await sections()) {
      const { status, retry } = PROBLEMS[slug as keyof typeof PROBLEMS];
      expect(`${slug} ${/^Status (\d+)\. Trying again (helps|does not help)\.$/m.exec(text)?.[0]}`).toBe(
        `${slug} Status ${status}. Trying again ${retry ? 'helps' : 'does not help'}.`,
      );
      // More than the line about the status.
      expect(text.length).toBeGreaterThan(120);
    }
  });

  async function sections(): Promise<[slug: string, text: string][]> {
    const text = await readFile(new URL('../docs/errors.md', import.meta.url), 'utf8');
    return text
      .split(/^## /m)
      .slice(1)
      .map((section) => {
        const [, slug = section, rest = ''] = /^`([^`]+)`\n([\s\S]*)$/.exec(section) ?? [];
        return [slug, rest];
      });
  }
});

test('becomes an RFC 9457 document with its extensions beside the members', () => {
  const error = new ServiceError('invalid-option', 'The option x is not valid.', {
    extensions: { field: 'x' },
  });
  expect(toProblem(error)).toEqual({
    type: 'urn:zeroscribe:problem:invalid-option',
    title: 'An option is not valid',
    status: 422,
    detail: 'The option x is not valid.',
    field: 'x',
  });
  expect(problemSlug(toProblem(error))).toBe('invalid-option');
});

test('every slug survives the way into a job record and back', () => {
  for (const slug of PROBLEM_SLUGS) expect(problemSlug(toProblem(new ServiceError(slug, 'x')))).toBe(slug);
});

describe('toServiceError', () => {
  test('leaves a foreseen failure as it is', () => {
    const error = new ServiceError('not-found', 'x');
    expect(toServiceError(error)).toBe(error);
  });

  test('shows nothing of an unforeseen one, and keeps it for the log', () => {
    const cause = new Error('/secret/path token=abc');
    const error = toServiceError(cause);
    expect(error).toMatchObject({ slug: 'internal', retry: true, cause });
    expect(JSON.stringify(toProblem(error))).not.toMatch(/secret|abc/);
  });

  test.each([
    [{ code: 'ENOSPC' }, 'storage-full'],
    [{ code: 'EDQUOT' }, 'storage-full'],
    [{ code: 'ERR_SQLITE_ERROR', errcode: 13 }, 'storage-full'],
    [{ code: 'ERR_SQLITE_ERROR', errcode: 5 }, 'internal'],
    [{ code: 'EACCES' }, 'internal'],
    [{ code: 13 }, 'internal'],
  ])('takes %j for %s', (fields, slug) => {
    expect(toServiceError(Object.assign(new Error('x'), fields)).slug).toBe(slug);
  });

  test.each([undefined, null, 'text', 13])('takes %j, which is no error, for internal', (thrown) => {
    expect(toServiceError(thrown).slug).toBe('internal');
  });
});
