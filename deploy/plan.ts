import { UsageError } from '../cli/usage-error.ts';
import { commandLine } from './gcloud.ts';
import { BACKEND_LABEL, type Layout } from './layout.ts';
import { type Deployed, type DeployedRun, queueOf } from './observe.ts';
import type { Change, StepContext } from './step.ts';
import { ALL_STEPS } from './steps/all-steps.ts';
import { lacksMistralKey, mistralKeyNeeded } from './steps/create-secrets.ts';

export interface PlannedStep {
  title: string;
  changes: Change[];
}

/** What `up` would do, in its order. @throws {UsageError} when something is in its way */
export function planSteps(context: StepContext & { deployed: Deployed }): PlannedStep[] {
  refuseStrangers(context.layout, context.deployed);
  return ALL_STEPS.map(({ title, changes }) => ({ title, changes: changes(context.deployed, context) }));
}

/** What `up` takes over, `down` removes: so it takes over nothing that it did not make. */
function refuseStrangers({ environment, project }: Layout, { strangers }: Deployed): void {
  if (strangers.length === 0) return;
  const lines = strangers.flatMap(({ what, owner, handOver: { args } }) => [
    `  ${what}, ${owner === undefined ? 'which has no label of ours' : `which is of the environment ${owner}`}`,
    `    $ ${commandLine({ args: withProject(args, project.id) })}`,
  ]);
  throw new UsageError(
    [
      `In the project ${project.id} there are things with the names of ${environment.name} that \`up\` did not make:`,
      ...lines,
      `Give deploy/environments/${environment.name}.ts another prefix (or bucket), or hand them over with these commands; \`down\` will then remove them too.`,
    ].join('\n'),
  );
}

/** The longest lines are the list of backends; here their beginning says enough. */
const MAX_LINE = 160;

export function planText(layout: Layout, steps: readonly PlannedStep[]): string {
  const changing = steps.filter(({ changes }) => changes.length > 0);
  const { environment, project, region } = layout;
  const where = `${environment.name} in the project ${project.id}, ${region}`;
  if (changing.length === 0) return `${where}: everything is as it should be.\n`;
  const count = changing.reduce((sum, { changes }) => sum + changes.length, 0);
  const lines = [`${where}: ${count} ${count === 1 ? 'change' : 'changes'}.`];
  for (const { title, changes } of changing) {
    lines.push('', `${title}`);
    for (const change of changes) {
      lines.push(`  ${change.title}`);
      lines.push(...(change.details ?? []).map((line) => `    ${shortened(line)}`));
      lines.push(
        ...change.commands.map(
          (command) => `    $ ${commandLine({ ...command, args: withProject(command.args, project.id) })}`,
        ),
      );
    }
  }
  return `${lines.join('\n')}\n`;
}

function withProject(args: readonly string[], project: string): string[] {
  return [...args, `--project=${project}`];
}

function shortened(line: string): string {
  return line.length > MAX_LINE ? `${line.slice(0, MAX_LINE - 2)} …` : line;
}

/** What a plan cannot change but whoever reads it should know. */
export function notes(context: StepContext & { deployed: Deployed }): string[] {
  const { layout, deployed, withHfToken } = context;
  const { secrets, gcsSources, backends } = layout.environment;
  const wantedNames = new Set(backends.map((backend) => layout.backendName(backend)));
  wantedNames.add(layout.services.api).add(layout.services.cpu);
  const leftOver = [...deployed.runs.values()].filter(({ metadata }) => !wantedNames.has(metadata.name));
  const leftOverQueue = ({ metadata }: DeployedRun): string | undefined => {
    const name = queueOf(layout, metadata.labels?.[BACKEND_LABEL] ?? '');
    return deployed.queues.has(name) ? name : undefined;
  };
  return [
    ...(lacksMistralKey(context) ? [mistralKeyNeeded(layout)] : []),
    ...(secrets.hfToken !== undefined && !withHfToken
      ? [
          'HF_TOKEN is not set: the GPU image will have no diarization model, and jobs that ask for speakers are refused. Set it for this command once, with the token of an account that has accepted the terms of pyannote/speaker-diarization-community-1.',
        ]
      : []),
    ...gcsSources.map(
      (source) =>
        `${source} is a bucket of yours: let ${layout.accounts.cpu} read it, with gcloud storage buckets add-iam-policy-binding gs://${source.split('/')[2]} --member=serviceAccount:${layout.accounts.cpu} --role=roles/storage.objectViewer`,
    ),
    ...leftOver.map((run) => {
      const { kind, metadata } = run;
      const queue = leftOverQueue(run);
      const project = `--project=${layout.project.id}`;
      const removeQueue = `, and its queue with gcloud tasks queues delete ${queue} --location=${layout.region} ${project}`;
      return `${metadata.name} is deployed but no longer in deploy/environments/${layout.environment.name}.ts. Remove it with gcloud run ${kind === 'Job' ? 'jobs' : 'services'} delete ${metadata.name} --region=${layout.region} ${project}${queue === undefined ? '' : removeQueue}`;
    }),
  ];
}
