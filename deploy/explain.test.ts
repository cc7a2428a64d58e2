import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from '@jest/globals';
import { REPOSITORY_ROOT } from '../core/installation.ts';
import { explain, explainInWords, fillTemplate } from './explain.ts';
import { ENVIRONMENT_VALUES, KNOWN_ERRORS } from './known-errors.ts';
import { troubleshootingPage } from './troubleshooting-page.ts';

const environment = { project: 'acme-staging', region: 'europe-west1', service: 'zs-gpu', job: 'zs-job' };

const commandsOf = (text: string): string[] =>
  (explain(text, environment) ?? []).flatMap(({ commands }) => commands);

describe('the table', () => {
  test('knows at least 25 errors, each by a name of its own', () => {
    const ids = KNOWN_ERRORS.map(({ id }) => id);
    expect(ids.length).toBeGreaterThanOrEqual(25);
    expect(new Set(ids).size).toBe(ids.length);
  });

  test('every sample is explained by its own entry and by no other', () => {
    const found = KNOWN_ERRORS.map(({ id, sample }) => [id, explain(sample)?.map((one) => one.id)]);
    expect(found).toEqual(KNOWN_ERRORS.map(({ id }) => [id, [id]]));
  });

  test('what it leaves open is caught in the text or known of the environment', () => {
    const known: readonly string[] = ENVIRONMENT_VALUES;
    const unknown = KNOWN_ERRORS.flatMap(({ id, pattern, sample, derive, cause, fix, commands }) => {
      const captured = pattern.exec(sample.replaceAll(/\s+/g, ' '))?.groups ?? {};
      const names = [...[cause, fix, ...commands].join(' ').matchAll(/\{(\w+)\}/g)].map(
        ([, name = '']) => name,
      );
      const caught = [...Object.keys(captured), ...Object.keys(derive?.(captured) ?? {}), ...known];
      return names.filter((name) => !caught.includes(name)).map((name) => `${id}: ${name}`);
    });
    expect(unknown).toEqual([]);
  });

  test('docs/troubleshooting.md is what `npm run format` writes from it', () => {
    const page = readFileSync(join(REPOSITORY_ROOT, 'docs', 'troubleshooting.md'), 'utf8');
    expect(page).toBe(troubleshootingPage());
  });
});

describe('the three errors that this was made for', () => {
  test('a T4 was asked for: the L4 is there', () => {
    const text = `ERROR: (gcloud.run.jobs.replace) only 'nvidia-l4', 'nvidia-a100-80gb', 'nvidia-h100-80gb'
      and 'nvidia-rtx-pro-6000-96gb' are supported`;
    expect(explain(text)).toMatchObject([
      {
        id: 'gpu-type-not-supported',
        cause: expect.stringContaining('no T4'),
        fix: expect.stringContaining('nvidia-l4'),
      },
    ]);
    expect(commandsOf(text)).toContain(
      'gcloud beta run jobs update zs-job --region=europe-west1 --project=acme-staging --gpu=1 --gpu-type=nvidia-l4',
    );
  });

  test('a job with an L4 wanted zonal redundancy: it has to be declined', () => {
    const text =
      'Currently Cloud Run jobs are unable to offer GPU enabled instances\nwith zonal redundancy due to capacity limitations.';
    expect(explain(text)).toMatchObject([{ id: 'job-zonal-redundancy' }]);
    expect(explain(text)?.[0]?.fix).toContain('run.googleapis.com/gpu-zonal-redundancy-disabled: "true"');
    expect(commandsOf(text)).toContain('npm run deploy -- up');
  });

  test('gcloud did not know --gpu: jobs may have GPUs all the same', () => {
    const text = 'ERROR: (gcloud.run.jobs.deploy) unrecognized arguments: --gpu=1';
    expect(explain(text)).toMatchObject([
      { id: 'gpu-flag-unknown', cause: expect.stringContaining('Cloud Run jobs may have GPUs') },
    ]);
    expect(commandsOf(text)).toContain('gcloud components update');
  });
});

test('a memory quota of 40 GiB is told in GiB', () => {
  const [found] =
    explain(
      `Max instances must be set to 1 or fewer to set the requested total memory.
       Quota violated: MemAllocPerProjectRegion requested: 68719476736 allowed: 42949672960`,
      environment,
    ) ?? [];
  expect(found?.id).toBe('memory-quota');
  expect(found?.cause).toContain('is 64 GiB, and the project may have 40 GiB');
});

test('an error that names several causes gets each explained', () => {
  const text = `Max instances must be set to 0 or fewer to set the requested total CPU.
    Quota violated:
    CpuAllocPerProjectRegion requested: 60000 allowed: 20000
    MemAllocPerProjectRegion requested: 257698037760 allowed: 42949672960`;
  expect(
    explain(text)
      ?.map(({ id }) => id)
      .toSorted(),
  ).toEqual(['cpu-quota', 'memory-quota']);
});

test('the last line of a build is not worth telling where the reason stands above it', () => {
  const text = `write /usr/lib/libcublas.so: no space left on device
    BUILD FAILURE: Build step failure: build step 0 "gcr.io/cloud-builders/docker" failed: step exited with non-zero status: 1`;
  expect(explain(text)?.map(({ id }) => id)).toEqual(['build-disk-full']);
});

test('what the error names is taken before what the environment says', () => {
  const text =
    'Permission "artifactregistry.repositories.uploadArtifacts" denied on resource "projects/other/locations/us-east4/repositories/images"';
  expect(commandsOf(text).at(-1)).toContain(
    'repositories add-iam-policy-binding images --location=us-east4 --project=other',
  );
});

test('what gcloud was about to deploy is what the command is for', () => {
  const text = `Applying new configuration to Cloud Run service [zs-gpu] in project [acme] region [us-east4]
    Deploying...failed
    ERROR: (gcloud.run.services.replace) Execution environment must be set to gen2 in order to set GPU`;
  expect(explain(text)?.[0]?.commands.at(-1)).toBe(
    'gcloud run services update zs-gpu --region=us-east4 --project=acme --execution-environment=gen2',
  );
});

test.each([
  [
    'mistral-unauthorized',
    'Mistral’s API does not accept the key of this service (401: Unauthorized). Its operator …',
  ],
  [
    'mistral-rate-limit',
    'Mistral’s API does not answer: it says 429: Rate limit exceeded. What it has answered is kept …',
  ],
  ['mistral-cannot-fetch', '"because":"Mistral could not fetch a signed link"'],
  [
    'signing-denied',
    'no link could be signed (403): the service account needs iam.serviceAccounts.signBlob on itself',
  ],
])('%s is known by what cpu-service says of it too', (id, text) => {
  expect(explain(text)?.map((one) => one.id)).toEqual([id]);
});

test('what nobody knows is left open in capitals', () => {
  expect(fillTemplate('gcloud run services list --region={region}', {})).toBe(
    'gcloud run services list --region=REGION',
  );
});

test('an unknown error is undefined, and shown whole without the tokens in it', () => {
  const text = 'ERROR: the flux capacitor\nis empty, said eyJhbGciOiJSUzI1NiJ9.eyJhdWQiOiJ4In0.c2ln';
  expect(explain(text)).toBeUndefined();
  expect(explainInWords(text)).toContain('ERROR: the flux capacitor\nis empty, said [a secret, left out]');
});

test('a known one is shown with its cause, its fix and its command', () => {
  expect(explainInWords('You do not currently have an active account selected.')).toBe(
    [
      'Nobody is logged in',
      '  why: gcloud has no account to act as.',
      '  fix: Log in. In a build system, activate the key or the workload identity of a service account.',
      '    $ gcloud auth login',
    ].join('\n'),
  );
});
