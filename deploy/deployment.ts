import type { Environment } from './environment.ts';
import { Gcloud, GcloudError, type GcloudOptions } from './gcloud.ts';
import { imageTags } from './images.ts';
import { type Layout, layOut, UNKNOWN_PROJECT } from './layout.ts';
import { type Deployed, NOTHING, observe, readProject } from './observe.ts';
import type { StepContext } from './step.ts';
import { hasHfToken } from './steps/create-secrets.ts';

/** An environment beside what is there of it. */
export interface Deployment extends StepContext {
  gcloud: Gcloud;
  deployed: Deployed;
}

export interface DeploymentOptions {
  env: NodeJS.ProcessEnv;
  gcloud?: Omit<GcloudOptions, 'project'>;
}

/** The project could not be read: no gcloud, no account, no project, or no right to see it. */
export class NoProject extends Error {
  override readonly name = 'NoProject';
}

/** Where an environment is, without a look at what is there. Its image tags say nothing. @throws {NoProject} */
export async function openProject(
  environment: Environment,
  { env, gcloud: options = {} }: DeploymentOptions,
): Promise<{ gcloud: Gcloud; layout: Layout }> {
  const id = await projectId(environment, env, options);
  try {
    const project = await readProject(new Gcloud(options), id);
    return {
      gcloud: new Gcloud({ ...options, project: project.id }),
      layout: layOut(environment, project, { api: 'none', gpu: 'none' }),
    };
  } catch (error) {
    if (!(error instanceof GcloudError)) throw error;
    throw new NoProject(`The project ${id} cannot be read.`, { cause: error });
  }
}

/** @throws {NoProject} */
export async function openDeployment(
  environment: Environment,
  options: DeploymentOptions,
): Promise<Deployment> {
  const { gcloud, layout: untagged } = await openProject(environment, options);
  const { env } = options;
  const deployed = await observe(gcloud, untagged);
  const withHfToken = hasHfToken(environment, deployed, env);
  const layout = layOut(environment, untagged.project, imageTags(environment, withHfToken));
  return { gcloud, deployed, layout, env, withHfToken };
}

/** Where there is nothing yet, for whoever has no account. */
export function imaginedDeployment(
  environment: Environment,
  env: NodeJS.ProcessEnv,
): StepContext & { deployed: Deployed } {
  const withHfToken = hasHfToken(environment, NOTHING, env);
  const id = environment.project ?? givenProject(env);
  const project = id === undefined ? UNKNOWN_PROJECT : { ...UNKNOWN_PROJECT, id };
  const layout = layOut(environment, project, imageTags(environment, withHfToken));
  return { layout, env, withHfToken, deployed: NOTHING };
}

function givenProject(env: NodeJS.ProcessEnv): string | undefined {
  return env.PROJECT || env.CLOUDSDK_CORE_PROJECT || env.GOOGLE_CLOUD_PROJECT || undefined;
}

async function projectId(
  { project, name }: Environment,
  env: NodeJS.ProcessEnv,
  options: Omit<GcloudOptions, 'project'>,
): Promise<string> {
  const given = project ?? givenProject(env);
  if (given !== undefined) return given;
  let configured: string;
  try {
    configured = (await new Gcloud(options).run({ args: ['config', 'get', 'project'] })).trim();
  } catch (error) {
    if (!(error instanceof GcloudError)) throw error;
    throw new NoProject('gcloud does not say which project is meant.', { cause: error });
  }
  if (configured !== '') return configured;
  throw new NoProject(
    `No project is named. Set PROJECT=my-project for this command, or \`gcloud config set project my-project\`, or project in deploy/environments/${name}.ts.`,
  );
}
