import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from '@jest/globals';
import { REPOSITORY_ROOT } from '../core/installation.ts';
import { loadEnvironment } from './environment.ts';
import { GcloudError } from './gcloud.ts';
import { imageSources } from './image-sources.ts';
import { buildConfig, buildTag, imageTags, waitForBuild } from './images.ts';
import { IMAGE_NAMES, layOut } from './layout.ts';

const staging = await loadEnvironment('staging');
const layout = layOut(staging, { id: 'my-project', number: '1' }, imageTags(staging, true));

interface Build {
  steps: [{ args: string[]; secretEnv?: string[] }];
  availableSecrets?: unknown;
  serviceAccount: string;
  options: Record<string, string>;
}

describe.each(IMAGE_NAMES)('the build of the image %s', (image) => {
  it('is sent everything that its Dockerfile copies', () => {
    const dockerfile = readFileSync(join(REPOSITORY_ROOT, `Dockerfile.${image}`), 'utf8');
    const copied = [...dockerfile.replaceAll('\\\n', ' ').matchAll(/^COPY (?!--from)(.*)$/gm)].flatMap(
      ([, words = '']) => words.trim().split(/\s+/).slice(0, -1),
    );
    expect(copied.length).toBeGreaterThan(5);
    const sent = imageSources(image);
    for (const path of copied) {
      const pattern = new RegExp(`^${path.replaceAll('.', '\\.').replace(/\$\{\w+\}|\*/g, '[^/]*')}(/|$)`);
      expect({ path, isSent: sent.some((file) => pattern.test(file)) }).toEqual({ path, isSent: true });
    }
    expect(sent).toContain('.dockerignore');
    expect(sent.filter((file) => /\.test\.ts$|node_modules|\.env|__pycache__/.test(file))).toEqual([]);
  });

  it('takes the arguments that its Dockerfile has', () => {
    const dockerfile = readFileSync(join(REPOSITORY_ROOT, `Dockerfile.${image}`), 'utf8');
    const build = buildConfig(layout, image, true) as unknown as Build;
    const given = build.steps[0].args.flatMap((arg) => /^--build-arg=(\w+)=/.exec(arg)?.[1] ?? []);
    for (const name of given.filter((one) => one !== 'BUILDKIT_INLINE_CACHE')) {
      expect(dockerfile).toMatch(new RegExp(`^ARG ${name}\\b`, 'm'));
    }
  });
});

describe('an image', () => {
  it('is built by an account of its own, and only the GPU image reads the token, as a secret', () => {
    const [api, gpu] = [
      buildConfig(layout, 'api', true),
      buildConfig(layout, 'gpu', true),
    ] as unknown as Build[];
    for (const build of [api, gpu]) {
      expect(build?.serviceAccount).toBe(
        'projects/my-project/serviceAccounts/zeroscribe-staging-build@my-project.iam.gserviceaccount.com',
      );
      // Another account's logs go to no bucket of Google's.
      expect(build?.options.logging).toBe('GCS_ONLY');
    }
    // Its models are loaded once, for which 8 GB are too little.
    expect([api, gpu].map((build) => build?.options.machineType)).toEqual(['E2_HIGHCPU_8', 'E2_HIGHCPU_32']);
    expect(api?.availableSecrets).toBeUndefined();
    expect(gpu?.steps[0].args).toContain('--secret=id=hf_token,env=HF_TOKEN');
    expect(gpu?.steps[0].secretEnv).toEqual(['HF_TOKEN']);
    const without = buildConfig(layout, 'gpu', false) as unknown as Build;
    expect(JSON.stringify(without)).not.toMatch(/hf_token|HF_TOKEN/i);
  });

  it('has another tag when other models are wanted, and the same when nothing changed', () => {
    expect(imageTags(staging, true)).toEqual(imageTags(staging, true));
    const larger = { ...staging, images: { ...staging.images, whisperModels: ['large-v3'] } };
    expect(imageTags(larger, true).gpu).not.toBe(imageTags(staging, true).gpu);
    expect(imageTags(larger, true).api).toBe(imageTags(staging, true).api);
    expect(imageTags(staging, false).gpu).not.toBe(imageTags(staging, true).gpu);
  });

  it('is waited for until its build is over, and a failed one is told of with its log', () => {
    const { until } = waitForBuild(layout, 'gpu');
    const builds = (status: string) =>
      JSON.stringify([
        { id: 'other', status: 'SUCCESS', tags: ['gpu-another'] },
        { id: 'b1', status, tags: [buildTag(layout.images.gpu)], failureInfo: { detail: 'no such model' } },
        { id: 'b0', status: 'FAILURE', tags: [buildTag(layout.images.gpu)] },
      ]);
    expect(until?.('[]', '')).toBe(false);
    expect(until?.(builds('WORKING'), '')).toBe(false);
    expect(until?.(builds('SUCCESS'), '')).toBe(true);
    expect(() => until?.(builds('FAILURE'), '')).toThrow(GcloudError);
    // The one that was started is not in the list yet.
    expect(until?.(builds('FAILURE'), JSON.stringify({ id: 'b2' }))).toBe(false);
    expect(until?.(builds('SUCCESS'), JSON.stringify({ id: 'b1' }))).toBe(true);
    expect(() => until?.(builds('FAILURE'), JSON.stringify({ id: 'b1' }))).toThrow(
      /b1 ended with FAILURE.*no such model.*gcloud builds log b1/s,
    );
  });
});
