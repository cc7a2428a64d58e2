import type { Command } from './gcloud.ts';
import type { Layout } from './layout.ts';
import type { Deployed } from './observe.ts';

/** One thing that is not yet as it should be. */
export interface Change {
  /** Such as "make the bucket gs://…". */
  title: string;
  /** For a plan: what exactly, a line each; `+` and `-` for what comes and goes. */
  details?: string[];
  /** One after the other. What one prints, the files of the next may be made of. */
  commands: Command[];
}

export interface StepContext {
  layout: Layout;
  /** Variables of whoever deploys, for secrets that only they know. */
  env: NodeJS.ProcessEnv;
  withHfToken: boolean;
}

/**
 * A part of a deployment. Its changes follow from what is there, so it is done when it has none, and a deployment
 * that broke off goes on by being started again. The changes of a step do not depend on each other.
 */
export interface Step {
  title: string;
  changes(deployed: Deployed, context: StepContext): Change[];
}
