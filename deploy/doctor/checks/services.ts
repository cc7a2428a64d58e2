import { keyOf } from '../../access.ts';
import { explain } from '../../explain.ts';
import { PORT } from '../../knative.ts';
import type { Layout } from '../../layout.ts';
import { manifests } from '../../manifests.ts';
import type { DeployedRun } from '../../observe.ts';
import { annotationsOf, conditionOf, containerOf, shapeOf, templateOf } from '../deployed-run.ts';
import type { Facts } from '../facts.ts';
import {
  type Check,
  type Finding,
  type FixCommand,
  ifSeen,
  notYet,
  ok,
  problem,
  type Remedy,
  warning,
} from '../finding.ts';
import { deployAgain, updateService } from '../fix-commands.ts';

const GIB = 1024 ** 3;
/** The deadline of every task. */
const TASK_TIMEOUT_S = 1_800;
/** What Cloud Run allows a startup probe in all. */
const PROBE_WINDOW_S = 240;

/** Services and jobs of this environment as they are deployed. */
function deployed(layout: Layout, runs: readonly DeployedRun[]): DeployedRun[] {
  const names = new Set(manifests(layout).map(({ metadata }) => metadata.name));
  return runs.filter(({ metadata }) => names.has(metadata.name));
}

export const checkReady: Check = {
  title: 'services and jobs',
  look: (facts, layout) =>
    ifSeen('Services and jobs', facts.runs, (runs) =>
      manifests(layout).map(({ kind, metadata: { name } }) => {
        const run = runs.find((one) => one.kind === kind && one.metadata.name === name);
        if (run === undefined) return notYet(name);
        const ready = conditionOf(run, 'Ready');
        if (ready?.status === 'True') return ok(`${name} is ready`);
        if (ready?.status === 'False') return notReady(layout, run, ready.message ?? 'it gives no reason');
        return warning(`${name} is being deployed`);
      }),
    ),
};

/** What Cloud Run says of it, and what that means. */
function notReady(layout: Layout, { kind, metadata: { name } }: DeployedRun, message: string): Finding {
  const { project, region, accounts, bucket, repository } = layout;
  const what = `${name} is not ready: ${message}`;
  const [known] =
    explain(message, {
      project: project.id,
      region,
      repository,
      bucket,
      [kind === 'Job' ? 'job' : 'service']: name,
      invoker: accounts.invoker,
    }) ?? [];
  if (known === undefined) {
    return problem(what, {
      why: 'Revisions before it go on serving. This message is not among those that are known here.',
      fix: 'Read its log.',
      commands: [
        {
          line: `gcloud run services logs read ${name} --region=${region} --project=${project.id} --limit=50`,
        },
      ],
    });
  }
  return problem(what, {
    why: `${known.title}. ${known.cause}`,
    fix: known.fix,
    commands: known.commands.map((line) => ({ line })),
  });
}

export const checkGpuShape: Check = {
  title: 'GPU services and jobs',
  look: (facts, layout) =>
    ifSeen('Services and jobs', facts.runs, (runs) => {
      const withGpu = deployed(layout, runs).filter((run) => expectsGpu(layout, run));
      if (withGpu.length === 0) return [notYet('those with a GPU')];
      return withGpu.flatMap((run) => {
        const wrong = [
          ...gpuFindings(layout, run),
          ...(run.kind === 'Service' ? gpuServiceFindings(layout, run) : gpuJobFindings(layout, run)),
        ];
        if (wrong.length > 0) return wrong;
        const { cpuMillis, memoryBytes } = shapeOf(run);
        return [
          ok(
            `${run.metadata.name}: L4, ${cpuMillis / 1_000} vCPU, ${memoryBytes / GIB} GiB, no zonal redundancy`,
          ),
        ];
      });
    }),
};

function expectsGpu({ environment, backendName }: Layout, { metadata }: DeployedRun): boolean {
  return environment.backends.some((backend) => backendName(backend) === metadata.name);
}

function gpuFindings(layout: Layout, run: DeployedRun): Finding[] {
  const { name } = run.metadata;
  const { gpus, accelerator, cpuMillis, memoryBytes } = shapeOf(run);
  const annotations = annotationsOf(run);
  // What a flag does for a service, only YAML does for a job everywhere.
  const fixedBy = (...flags: string[]): FixCommand[] =>
    run.kind === 'Service' ? [updateService(layout, name, ...flags)] : [deployAgain(layout)];
  return [
    ...when(gpus !== 1 || accelerator !== 'nvidia-l4', () =>
      problem(`${name} asks for ${gpus === 0 ? 'no GPU' : `the GPU ${accelerator ?? '(none named)'}`}`, {
        why: 'Cloud Run has no T4 or other small GPUs, and the models need one: `nvidia-l4` is what every project gets.',
        fix: 'Ask for one L4.',
        commands: fixedBy('--gpu=1', '--gpu-type=nvidia-l4', '--no-gpu-zonal-redundancy'),
      }),
    ),
    ...when(!isTrue(annotations['run.googleapis.com/gpu-zonal-redundancy-disabled']), () =>
      problem(`${name} has zonal redundancy`, {
        why: 'Its quota is another one, 0 in new projects; jobs cannot have it at all, and the GPU costs half as much again.',
        fix: 'Decline it.',
        commands: fixedBy('--no-gpu-zonal-redundancy'),
      }),
    ),
    ...when(cpuMillis < 4_000 || memoryBytes < 16 * GIB, () =>
      problem(`${name} has ${cpuMillis / 1_000} vCPU and ${memoryBytes / GIB} GiB`, {
        why: 'An L4 comes with 4 vCPU and 16 GiB at least.',
        fix: 'Take one of the shapes of the environment file.',
        commands: fixedBy('--cpu=8', '--memory=32Gi'),
      }),
    ),
    ...when(annotations['run.googleapis.com/execution-environment'] === 'gen1', () =>
      problem(`${name} runs in the first-generation environment`, {
        why: 'It passes no GPU through.',
        fix: 'Take the second.',
        commands: fixedBy('--execution-environment=gen2'),
      }),
    ),
  ];
}

function gpuServiceFindings(layout: Layout, run: DeployedRun): Finding[] {
  const { name } = run.metadata;
  const annotations = annotationsOf(run);
  const { containerConcurrency } = templateOf(run);
  const least = Number(annotations['autoscaling.knative.dev/minScale'] ?? 0);
  return [
    ...when(!isFalse(annotations['run.googleapis.com/cpu-throttling']), () =>
      problem(`${name} is billed by request`, {
        why: 'A GPU needs instance-based billing, and models load between requests. It scales to zero all the same.',
        fix: 'Switch CPU throttling off.',
        commands: [updateService(layout, name, '--no-cpu-throttling')],
      }),
    ),
    ...when(containerConcurrency !== 1, () =>
      problem(`${name} takes ${containerConcurrency ?? 'many'} tasks at a time`, {
        why: 'One GPU does one task. Cloud Run sends more to the same instance before it starts another, and they are sent back.',
        fix: 'Set the concurrency to 1.',
        commands: [updateService(layout, name, '--concurrency=1')],
      }),
    ),
    ...when(least > 0, () =>
      warning(`${name} keeps ${least} running`, {
        why: 'An idle instance with an L4 costs about a thousand dollars a month.',
        fix: 'Let it scale to zero.',
        commands: [updateService(layout, name, '--min-instances=0')],
      }),
    ),
  ];
}

function gpuJobFindings(layout: Layout, run: DeployedRun): Finding[] {
  const { name } = run.metadata;
  const { maxRetries } = templateOf(run) as { maxRetries?: number };
  return when(maxRetries !== undefined && maxRetries > 0, () =>
    warning(`${name} is tried again by Cloud Run`, {
      why: 'Attempts are counted in the record of a job, and reconcile starts the next; a second try by the platform runs beside it.',
      fix: 'Set its retries to 0, as its manifest has them.',
      commands: [deployAgain(layout)],
    }),
  );
}

export const checkServiceSettings: Check = {
  title: 'timeouts, probes and ingress',
  look: (facts, layout) =>
    ifSeen('Services and jobs', facts.runs, (runs) => {
      const services = deployed(layout, runs).filter(({ kind }) => kind === 'Service');
      if (services.length === 0) return [notYet('the services')];
      return services.flatMap((run) => {
        const wrong = [
          ...timeoutFindings(layout, run),
          ...probeFindings(layout, run),
          ...ingressFindings(layout, run),
          ...publicFindings(layout, run, facts),
        ];
        return wrong.length > 0 ? wrong : [ok(`${run.metadata.name}: as they should be`)];
      });
    }),
};

function timeoutFindings(layout: Layout, run: DeployedRun): Finding[] {
  const { name } = run.metadata;
  const seconds = Number(templateOf(run).timeoutSeconds ?? 300);
  if (name === layout.services.api || seconds >= TASK_TIMEOUT_S) return [];
  return [
    problem(`${name} ends requests after ${seconds} s`, {
      why: `A task may take ${TASK_TIMEOUT_S} s; Cloud Run answers 504 before, and the work is done twice.`,
      fix: 'Set the timeout to 3600 s.',
      commands: [updateService(layout, name, '--timeout=3600')],
    }),
  ];
}

function probeFindings(layout: Layout, run: DeployedRun): Finding[] {
  const { name } = run.metadata;
  const probe = containerOf(run).startupProbe;
  const path = probe?.httpGet?.path;
  const periodSeconds = probe?.periodSeconds ?? 10;
  const window = periodSeconds * (probe?.failureThreshold ?? 3);
  const right = `httpGet.path=/health/live,httpGet.port=${PORT},periodSeconds=1,timeoutSeconds=1,failureThreshold=${PROBE_WINDOW_S}`;
  const remedy = (why: string): Remedy => ({
    why,
    fix: 'Ask for /health/live every second.',
    commands: [updateService(layout, name, `--startup-probe=${right}`)],
  });
  // Without one of ours, Cloud Run tries the port.
  if (path === undefined) return [];
  if (/z\/?$/.test(path)) {
    return [
      problem(
        `${name} is probed at ${path}`,
        remedy('Google’s front end keeps paths that end in z to itself.'),
      ),
    ];
  }
  if (path !== '/health/live') {
    return [
      warning(
        `${name} is probed at ${path}`,
        remedy(
          'While models load only /health/live answers; an instance that is not let in for minutes is given up.',
        ),
      ),
    ];
  }
  return when(window > PROBE_WINDOW_S || (probe?.timeoutSeconds ?? 1) > periodSeconds, () =>
    problem(
      `${name} has a startup probe of ${window} s with a timeout of ${probe?.timeoutSeconds ?? 1} s`,
      remedy(`Cloud Run allows ${PROBE_WINDOW_S} s in all, and a timeout no longer than the period.`),
    ),
  );
}

function ingressFindings(layout: Layout, run: DeployedRun): Finding[] {
  const { name, annotations = {} } = run.metadata;
  const ingress = annotations['run.googleapis.com/ingress'] ?? 'all';
  const set = (value: string) => [updateService(layout, name, `--ingress=${value}`)];
  if (name === layout.services.api) {
    if (ingress === 'all') return [];
    const { publicUrl } = layout.environment.api;
    if (ingress === 'internal-and-cloud-load-balancing' && publicUrl !== undefined) return [];
    return [
      problem(`${name} takes calls from within only (${ingress})`, {
        why: 'Clients get a 404 from Google’s front end, and nothing is logged.',
        fix: 'Let it take calls from everywhere; it asks for keys by itself.',
        commands: set('all'),
      }),
    ];
  }
  if (ingress === 'all') {
    return [
      warning(`${name} is reachable from everywhere`, {
        why: 'Only its check of the caller protects it then. Cloud Tasks of the same project reaches it from within.',
        fix: 'Let it take calls from within only.',
        commands: set('internal'),
      }),
    ];
  }
  return [];
}

/** A public API checks no caller at Google's front end: by its annotation, or because everybody is invoker. */
function publicFindings(layout: Layout, run: DeployedRun, { policies }: Facts): Finding[] {
  const { name, annotations = {} } = run.metadata;
  if (name !== layout.services.api || layout.environment.api.access !== 'public') return [];
  if (isTrue(annotations['run.googleapis.com/invoker-iam-disabled'])) return [];
  const policy = policies.get(keyOf({ kind: 'service', name }));
  const isOpen =
    policy?.isSeen &&
    policy.value.bindings?.some(
      ({ role, members }) => role === 'roles/run.invoker' && members.includes('allUsers'),
    );
  if (isOpen) return [];
  return [
    problem(`${name} should be public, and Google’s front end lets nobody through`, {
      why: 'Clients get 403 before their key is looked at.',
      fix: 'Switch the check of the caller off; the API asks for its own keys. Or set api.access to iam.',
      commands: [updateService(layout, name, '--no-invoker-iam-check')],
    }),
  ];
}

export const checkApiAnswers: Check = {
  title: 'API',
  look: ({ apiAnswers }: Facts, layout) => {
    if (apiAnswers === undefined) {
      return [
        layout.environment.api.access === 'iam'
          ? ok('asks for an identity token; `npm run deploy -- smoke` calls it')
          : notYet('the API'),
      ];
    }
    return ifSeen('Whether the API answers', apiAnswers, (answers) =>
      answers
        ? [ok('answers')]
        : [
            problem(`${layout.urls.api}/health/live does not answer with 200`, {
              why: 'It has no instance that starts, or Google’s front end lets nobody through.',
              fix: 'Read its log.',
              commands: [
                {
                  line: `gcloud run services logs read ${layout.services.api} --region=${layout.region} --project=${layout.project.id} --limit=50`,
                },
              ],
            }),
          ],
    );
  },
};

function when(condition: boolean, finding: () => Finding): Finding[] {
  return condition ? [finding()] : [];
}

/** gcloud writes True, people write true. */
function isTrue(text: string | undefined): boolean {
  return text?.toLowerCase() === 'true';
}

function isFalse(text: string | undefined): boolean {
  return text?.toLowerCase() === 'false';
}
