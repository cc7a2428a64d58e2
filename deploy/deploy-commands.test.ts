import { expect, test } from '@jest/globals';
import { hasGcloud, lintGcloudCommands } from '../tests/support/gcloud-linter.ts';
import { imaginedDeployment } from './deployment.ts';
import { removals } from './down.ts';
import { parseEnvironment } from './environment.ts';
import staging from './environments/staging.ts';
import { type Command, commandLine, Gcloud } from './gcloud.ts';
import { manifests } from './manifests.ts';
import { type Deployed, type DeployedRun, observe, readProject, runKey } from './observe.ts';
import { planSteps } from './plan.ts';
import { readStatus } from './status.ts';
import { readApiKeyCommand } from './steps/create-secrets.ts';
import { neededApis } from './steps/enable-apis.ts';

const isThere = await hasGcloud();
if (!isThere) console.info('skipped: there is no gcloud here to check the commands with');

const environment = parseEnvironment('everything', {
  ...staging,
  backends: [
    ...staging.backends,
    { kind: 'server', name: 'box', url: 'https://gpu.example.com' },
    { kind: 'voxtral', name: 'voxtral' },
  ],
  api: { access: 'iam', invokers: ['group:staff@example.com'] },
  secrets: { ...staging.secrets, mistralApiKey: 'mistral' },
  storage: { corsOrigins: ['https://app.example.com'] },
});
const env = { PROJECT: 'my-project', HF_TOKEN: 'x', MISTRAL_API_KEY: 'x' };
const imagined = imaginedDeployment(environment, env);
const { layout } = imagined;

/** All of it is there, and all of it is wrong. */
const wrong: Deployed = {
  ...imagined.deployed,
  apis: new Set(neededApis(layout)),
  accounts: new Set(Object.values(layout.accounts)),
  repository: { name: layout.repository, labels: layout.labels },
  buckets: new Map(
    [layout.bucket, layout.buildBucket].map((name) => [name, { name, labels: layout.labels }]),
  ),
  queues: new Map(
    [layout.queues.cpu, ...Object.values(layout.queues.backends)].map((name) => [name, { name }]),
  ),
  secrets: new Map(
    Object.values(environment.secrets).map((name = '') => [name, { hasValue: false, labels: layout.labels }]),
  ),
  runs: new Map(
    manifests(layout).map((manifest) => [
      runKey(manifest.kind, manifest.metadata.name),
      manifest as DeployedRun,
    ]),
  ),
  vertexRole: { deleted: true },
  projectPolicy: {
    bindings: [
      {
        role: `projects/my-project/roles/${layout.vertexRole}`,
        members: [`serviceAccount:${layout.accounts.cpu}`],
      },
    ],
  },
};

/** Answers as Google would if all of it were there, and remembers what it was asked. */
class RecordingGcloud extends Gcloud {
  readonly asked: Command[] = [];

  override async run(command: Command): Promise<string> {
    this.asked.push(command);
    return JSON.stringify(answerTo(command.args.join(' ')));
  }
}

function answerTo(line: string): unknown {
  if (line.startsWith('projects describe')) return { projectId: 'my-project', projectNumber: '1' };
  if (line.startsWith('services list')) return [...wrong.apis].map((name) => ({ config: { name } }));
  if (line.startsWith('iam service-accounts list')) return [...wrong.accounts].map((email) => ({ email }));
  if (line.startsWith('artifacts repositories list')) return [wrong.repository];
  if (line.startsWith('storage buckets list')) return [...wrong.buckets.values()];
  if (line.startsWith('tasks queues list')) return [...wrong.queues.values()];
  if (line.startsWith('secrets list')) return [...wrong.secrets.keys()].map((name) => ({ name }));
  if (line.startsWith('run services list')) {
    return [...wrong.runs.values()].filter(({ kind }) => kind === 'Service');
  }
  if (line.startsWith('run jobs list')) return [...wrong.runs.values()].filter(({ kind }) => kind === 'Job');
  return line.includes('list') ? [] : {};
}

(isThere ? test : test.skip)(
  'every command that a deployment can send is one that gcloud has',
  async () => {
    const first = planSteps(imagined);
    const corrections = planSteps({ ...imagined, deployed: { ...wrong, projectPolicy: {} } });
    const vertexJob = { name: 'projects/1/locations/europe-west4/customJobs/7' };
    const all = { deleteData: true, keepQueues: false };
    const down = removals(layout, { ...wrong, vertexRole: {} }, [vertexJob], all).flat();
    const gcloud = new RecordingGcloud();
    await readProject(gcloud, 'my-project');
    await observe(gcloud, layout);
    await readStatus({ gcloud, layout }, async () => 'ready');

    const sent = [
      ...[...first, ...corrections].flatMap((step) => step.changes.flatMap(({ commands }) => commands)),
      ...down.map(({ command }) => command),
      ...gcloud.asked,
      { args: ['config', 'get', 'project'] },
    ].map(({ args }) => commandLine({ args: [...args, '--project=my-project'] }));
    // The linter takes a while for each: one of those that differ only in names will do.
    const shape = (line: string) =>
      line.replace(/[^ =']*(?:zeroscribe|my-project|everything|mistral|@)[^ ']*/g, 'NAME');
    const lines = [
      ...new Map([...sent, readApiKeyCommand(layout)].map((line) => [shape(line), line])).values(),
    ];
    // Each verb that this tool knows, so that a forgotten one is seen.
    for (const part of ['queues update', 'buckets update', 'versions add', 'roles undelete', 'jobs delete']) {
      expect(lines.filter((line) => line.includes(part))).not.toEqual([]);
    }
    expect(new Set(sent).size).toBeGreaterThan(100);
    expect(await lintGcloudCommands(lines)).toEqual([]);
  },
  180_000,
);
