import { stringify } from 'yaml';
import type { Environment } from './environment.ts';
import { type Command, commandLine, GcloudError } from './gcloud.ts';
import { imageSources, imageTag } from './image-sources.ts';
import type { ImageName, Layout } from './layout.ts';

interface BuildChoices {
  arguments: Record<string, string>;
  /** Whether the gated diarization model can be fetched. */
  withHfToken: boolean;
}

export function buildChoices({ images }: Environment, image: ImageName, withHfToken: boolean): BuildChoices {
  const base = images.baseImage === undefined ? {} : { BASE_IMAGE: images.baseImage };
  if (image === 'api') return { arguments: base, withHfToken: false };
  return {
    arguments: {
      ...base,
      DEVICE: 'cuda',
      WHISPER_MODELS: images.whisperModels.join(' '),
      ALIGNMENT_LANGUAGES: images.alignmentLanguages.join(' '),
      ...(withHfToken && { DIARIZATION: 'yes' }),
    },
    withHfToken,
  };
}

export function imageTags(environment: Environment, withHfToken: boolean): Record<ImageName, string> {
  const tag = (image: ImageName) =>
    imageTag(imageSources(image), buildChoices(environment, image, withHfToken));
  return { api: tag('api'), gpu: tag('gpu') };
}

const BUILD_TIMEOUT_S = 2 * 60 * 60;
const BUILD_DISK_GB = 200;

/** Builds and pushes an image at Google, out of exactly the files that its tag was made of. */
export function buildCommand(layout: Layout, image: ImageName, withHfToken: boolean): Command {
  const { images } = layout.environment;
  return {
    args: [
      'builds',
      'submit',
      'source',
      '--config=cloudbuild.yaml',
      `--region=${images.buildRegion}`,
      `--gcs-source-staging-dir=gs://${layout.buildBucket}/source`,
      // Followed by waitForBuild, which another `up` can do as well.
      '--async',
      '--format=json',
    ],
    sources: imageSources(image),
    files: { 'cloudbuild.yaml': stringify(buildConfig(layout, image, withHfToken), { lineWidth: 0 }) },
  };
}

export function buildConfig(layout: Layout, image: ImageName, withHfToken: boolean): Record<string, unknown> {
  const { environment, images, buildBucket, accounts, project } = layout;
  const choices = buildChoices(environment, image, withHfToken);
  const { hfToken } = environment.secrets;
  const usesToken = choices.withHfToken && hfToken !== undefined;
  const latest = images[image].replace(/:[^:]*$/, ':latest');
  return {
    steps: [
      {
        name: 'gcr.io/cloud-builders/docker',
        args: [
          'build',
          `--file=Dockerfile.${image}`,
          `--tag=${images[image]}`,
          `--tag=${latest}`,
          // The layers of the image before this one, models among them.
          `--cache-from=${latest}`,
          '--build-arg=BUILDKIT_INLINE_CACHE=1',
          ...Object.entries(choices.arguments).map(([name, value]) => `--build-arg=${name}=${value}`),
          ...(usesToken ? ['--secret=id=hf_token,env=HF_TOKEN'] : []),
          '.',
        ],
        env: ['DOCKER_BUILDKIT=1'],
        ...(usesToken && { secretEnv: ['HF_TOKEN'] }),
      },
    ],
    images: [images[image], latest],
    ...(usesToken && {
      availableSecrets: {
        secretManager: [
          { versionName: `projects/${project.id}/secrets/${hfToken}/versions/latest`, env: 'HF_TOKEN' },
        ],
      },
    }),
    tags: [buildTag(images[image])],
    // The default accounts of Cloud Build may do more, and organisations switch them off.
    serviceAccount: `projects/${project.id}/serviceAccounts/${accounts.build}`,
    logsBucket: `gs://${buildBucket}`,
    options: {
      logging: 'GCS_ONLY',
      machineType: image === 'gpu' ? environment.images.buildMachine : 'E2_HIGHCPU_8',
      diskSizeGb: String(BUILD_DISK_GB),
    },
    timeout: `${BUILD_TIMEOUT_S}s`,
  };
}

/** By which a build is found again, whoever started it. */
export function buildTag(image: string): string {
  return image.split('/').at(-1)?.replace(':', '-') ?? '';
}

/** A build as `gcloud builds list` prints it. */
export interface Build {
  id: string;
  status: string;
  statusDetail?: string;
  failureInfo?: { type?: string; detail?: string };
  logUrl?: string;
  tags?: string[];
}

const UNDER_WAY = new Set(['PENDING', 'QUEUED', 'WORKING']);

export function isUnderWay({ status }: Build): boolean {
  return UNDER_WAY.has(status);
}

export function listBuildsArguments({ environment: { images } }: Layout): string[] {
  return ['builds', 'list', `--region=${images.buildRegion}`, '--limit=50'];
}

/**
 * Over when the build has succeeded that the command before it has started, or, when there was none, the newest of the
 * image. A list that is a moment behind must not show an older one of the same tag in its place.
 */
export function waitForBuild(layout: Layout, image: ImageName): Command {
  const args = [...listBuildsArguments(layout), '--format=json'];
  return {
    args,
    until(output, before) {
      const started = before === '' ? undefined : (JSON.parse(before) as Build).id;
      // The newest come first.
      const build = (JSON.parse(output) as Build[]).find(({ id, tags }) =>
        started === undefined ? tags?.includes(buildTag(layout.images[image])) : id === started,
      );
      if (build === undefined || isUnderWay(build)) return false;
      if (build.status === 'SUCCESS') return true;
      const { id, status, statusDetail = '', failureInfo, logUrl = '' } = build;
      throw new GcloudError(
        commandLine({ args }),
        [
          `The build ${id} ended with ${status}. ${statusDetail}`,
          failureInfo?.detail ?? '',
          `Its log: ${logUrl}`,
          `    gcloud builds log ${id} --region=${layout.environment.images.buildRegion} --project=${layout.project.id}`,
        ]
          .filter((line) => line !== '')
          .join('\n'),
      );
    },
  };
}
