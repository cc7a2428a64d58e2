import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { createApp } from '../api/app.ts';
import type { ApiDependencies } from '../api/dependencies.ts';
import { FORMAT_NAMES, FORMAT_PARAMETERS, parseFormatOptions } from '../core/formats/format-options.ts';
import { JOB_STATUSES, RoutingEstimate, STAGES } from '../core/job.ts';
import { JOB_ID } from '../core/objects.ts';
import { NOT_YET, OPTION_NAMES, parseOptions } from '../core/options.ts';
import { PROBLEM_SLUGS } from '../core/problem.ts';
import { Transcript } from '../core/transcript.ts';
import { type StartedApi, startApi } from '../tests/support/start-api.ts';

const page = readFileSync(join(import.meta.dirname, 'api.md'), 'utf8');

/** The text from a heading to the next. */
function section(heading: string): string {
  const text = page.split(/^## /m).find((part) => part.startsWith(`${heading}\n`));
  if (text === undefined) throw new Error(`the page has no section ${heading}`);
  return text;
}

/** The rows of the tables of a section whose first cell is code: cells as they stand there. */
function rows(heading: string): string[][] {
  return [...section(heading).matchAll(/^\| (`.*) \|$/gm)].map(([, row = '']) => row.split(/ ?\| ?/));
}

const bare = (cell = '') => /^`(.*)`$/.exec(cell)?.[1] ?? cell;
const names = (heading: string) => rows(heading).map(([name]) => bare(name));

let api: StartedApi;
beforeAll(async () => {
  api = await startApi();
});
afterAll(() => api.stop());

/** Which methods it has there, the tus protocol says. */
const isTus = (route: string) => /\/v1\/uploads(\/\{id\})?$/.test(route);

test('lists the routes of the application, and no other', () => {
  const { router } = createApp({ log: undefined, keys: [] } as unknown as ApiDependencies);
  const routes = router.stack.flatMap(({ route }) =>
    route === undefined
      ? []
      : [...new Set(route.stack.map(({ method }) => method))].map(
          (method) => `${method?.toUpperCase()} ${String(route.path).replace(/:(\w+)/g, '{$1}')}`,
        ),
  );
  const isOurs = (route: string) => !isTus(route) && !route.startsWith('OPTIONS');
  expect(names('Routes').filter(isOurs).toSorted()).toEqual(routes.filter(isOurs).toSorted());
});

test('lists the options of a submission with their defaults, and no other', () => {
  expect(names('Submitting')).toEqual(OPTION_NAMES);
  const { options, metadata } = parseOptions({});
  const defaults: Record<string, unknown> = { ...options, metadata: JSON.stringify(metadata) };
  for (const [cell, value = ''] of rows('Submitting')) {
    const name = bare(cell);
    // Words instead of code stand for what only the service or the recording knows.
    const documented = value.startsWith('`') ? bare(value) : null;
    expect([name, documented]).toEqual([name, defaults[name] == null ? null : String(defaults[name])]);
  }
});

test('lists the parameters of a transcript with its formats', () => {
  expect(names('The transcript')).toEqual(FORMAT_PARAMETERS);
  const [format] = rows('The transcript');
  for (const name of FORMAT_NAMES) expect(format?.[2]).toContain(`\`${name}\``);
  expect(bare(format?.[1])).toBe(parseFormatOptions({}).format);
});

test('lists the parameters of the list', async () => {
  const answer = await fetch(`${api.url}/v1/transcriptions?nonsense=1`);
  const { detail } = (await answer.json()) as { detail: string };
  expect(detail).toContain(
    `Parameters are ${names('The list')
      .join(', ')
      .replace(/, (\w+)$/, ' and $1')}.`,
  );
});

test('shows a transcription with the members that one has', async () => {
  const body = new FormData();
  body.append('file', new Blob(['sound']), 'a.mp3');
  const answer = await fetch(`${api.url}/v1/transcriptions`, { method: 'POST', body });
  const shape = (value: unknown): unknown =>
    typeof value === 'object' && value !== null && !Array.isArray(value)
      ? Object.fromEntries(Object.entries(value).map(([name, member]) => [name, shape(member)]))
      : 0;
  const { problem, language, ...real } = (await answer.json()) as Record<string, unknown>;
  const { problem: _problem, language: _language, ...shown } = example('A transcription');
  expect(shape(shown)).toEqual(shape(real));
  const { estimates } = shown.routing as { estimates: unknown[] };
  expect(estimates.map((one) => RoutingEstimate.parse(one))).toEqual(estimates);
  for (const name of Object.keys(RoutingEstimate.shape)
    .filter((one) => one.includes('_'))
    .concat('meets'))
    expect(page).toContain(name);
  expect(shown.id).toMatch(JOB_ID);
  expect({ problem, language }).toEqual({ problem: null, language: null });
  for (const name of [...JOB_STATUSES, ...STAGES]) {
    expect(section('A transcription')).toContain(`\`${name}\``);
  }
});

test('shows a transcript as one is', () => {
  const shown = example('The transcript');
  expect(Transcript.parse(shown)).toEqual(shown);
});

test('names only problems that there are', () => {
  const named = [...page.matchAll(/\b[45]\d\d `([a-z-]+)`((?:,\s`[a-z-]+`)*)/g)].flatMap(
    ([, first = '', more = '']) => [
      first,
      ...[...more.matchAll(/`([a-z-]+)`/g)].map(([, slug = '']) => slug),
    ],
  );
  expect(named.length).toBeGreaterThan(10);
  expect(PROBLEM_SLUGS).toEqual(expect.arrayContaining(named));
});

test('lists all options that are not there yet', () => {
  for (const name of NOT_YET) expect(section('Not there yet')).toContain(`\`${name}\``);
});

/** The JSON that a section shows. */
function example(heading: string): Record<string, unknown> {
  return JSON.parse(/```json\n([\s\S]*?)```/.exec(section(heading))?.[1] ?? '');
}
