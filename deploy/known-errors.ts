/**
 * What goes wrong when Zeroscribe is deployed, as Google and our own services word it, with what it means and what helps.
 * explain.ts looks errors up here, and docs/troubleshooting.md is written from it.
 *
 * The samples are real. `source` says where each was seen: a public page or thread, or a recording of our own.
 */
export interface KnownError {
  id: string;
  area: ErrorArea;
  /** What happened, as a heading. */
  title: string;
  /** Looked for in the text with every run of white space made one space: gcloud breaks its lines anywhere. */
  pattern: RegExp;
  sample: string;
  source: string;
  /**
   * In these and in the commands, `{name}` stands for what a group of the pattern caught, what `derive` makes of it, or
   * a value of the environment; where nothing is known it is shown as NAME.
   */
  cause: string;
  fix: string;
  commands: readonly string[];
  /** Says little, so it is shown only where no other entry fits. */
  isGeneral?: true;
  derive?: (captured: Captured) => Record<string, string>;
}

export type Captured = Readonly<Record<string, string | undefined>>;

export const ERROR_AREAS = {
  gcloud: 'gcloud and the account',
  project: 'The project',
  gpu: 'GPUs and quota',
  manifest: 'Services and jobs',
  images: 'Images and builds',
  permissions: 'Permissions and organisation policies',
  storage: 'Bucket, queues and secrets',
  vertex: 'Vertex AI',
  mistral: 'Mistral',
  running: 'Once it runs',
} as const;

export type ErrorArea = keyof typeof ERROR_AREAS;

/** What `{name}` may stand for besides what the pattern catches. */
export const ENVIRONMENT_VALUES = [
  'project',
  'project_number',
  'region',
  'repository',
  'image',
  'service',
  'job',
  'bucket',
  'queue',
  'secret',
  'account',
  'service_account',
  'invoker',
  'url',
] as const;

const CLOUD_RUN_TROUBLESHOOTING = 'https://docs.cloud.google.com/run/docs/troubleshooting';
const CLOUD_RUN_GPU = 'https://docs.cloud.google.com/run/docs/configuring/services/gpu';
const CLOUD_RUN_JOB_GPU = 'https://docs.cloud.google.com/run/docs/configuring/jobs/gpu';
const CLOUD_RUN_CONFORMANCE =
  'https://github.com/justinswe/rules_cloudrun (internal/manifest/conformance_test.go, which records what the API answers)';
const QUOTED = 'quoted in public repositories';

const GIB = 1024 ** 3;

export const KNOWN_ERRORS: readonly KnownError[] = [
  // --- gcloud and the account ---
  {
    id: 'gpu-flag-unknown',
    area: 'gcloud',
    title: 'This gcloud has no --gpu for jobs',
    pattern: /unrecognized arguments: .{0,200}?--gpu\b/,
    sample: `ERROR: (gcloud.run.jobs.deploy) unrecognized arguments:

 --gpu flag is available in one or more alternate release tracks. Try:

  gcloud alpha run jobs deploy --gpu
  gcloud beta run jobs deploy --gpu

  --gpu=1 (did you mean '--cpu'?)`,
    source: `recorded with Google Cloud SDK 528; older ones say only "unrecognized arguments: --gpu=1"`,
    cause:
      'Cloud Run jobs may have GPUs, since October 2025 for everybody. Only the flag is missing: the command without `beta` does not have it in this version of gcloud.',
    fix: 'Update gcloud, or take the command of the beta track. `npm run deploy` is not affected: it sends the whole job as YAML, which needs no flag.',
    commands: [
      'gcloud components update',
      'gcloud beta run jobs update {job} --region={region} --project={project} --gpu=1 --gpu-type=nvidia-l4',
    ],
  },
  {
    id: 'gcloud-too-old',
    area: 'gcloud',
    title: 'This gcloud does not know the command',
    pattern: /ERROR: \(gcloud[\w.-]*\) Invalid choice: '(?<choice>[\w-]+)'/,
    sample: `ERROR: (gcloud) Invalid choice: 'quotas'.
This command is available in one or more alternate release tracks.  Try:
  gcloud alpha quotas
  gcloud beta quotas`,
    source: 'recorded with Google Cloud SDK 528',
    cause:
      '`{choice}` is no command of this gcloud: it is older than the command, or has it in another track.',
    fix: 'Update gcloud. Where it was installed by a package manager, update it there.',
    commands: ['gcloud components update'],
  },
  {
    id: 'not-logged-in',
    area: 'gcloud',
    title: 'Nobody is logged in',
    pattern: /You do not currently have an active account selected/,
    sample: `ERROR: (gcloud.run.services.list) You do not currently have an active account selected.
Please run:

  $ gcloud auth login

to obtain new credentials.`,
    source: 'recorded with Google Cloud SDK 528',
    cause: 'gcloud has no account to act as.',
    fix: 'Log in. In a build system, activate the key or the workload identity of a service account.',
    commands: ['gcloud auth login'],
  },
  {
    id: 'login-expired',
    area: 'gcloud',
    title: 'The login has expired',
    pattern: /problem refreshing your current auth tokens/,
    sample: `ERROR: (gcloud.secrets.versions.list) There was a problem refreshing your current auth tokens:
Reauthentication failed. cannot prompt during non-interactive execution.`,
    source: `https://docs.cloud.google.com/sdk/docs/authorizing; this text ${QUOTED}`,
    cause: 'The organisation asks for a new login from time to time, or the login was withdrawn.',
    fix: 'Log in again.',
    commands: ['gcloud auth login'],
  },
  {
    id: 'no-project',
    area: 'gcloud',
    title: 'No project is set',
    pattern: /The \[project\] resource is not properly specified/,
    sample:
      'ERROR: (gcloud.run.services.list) The [project] resource is not properly specified. Please specify the argument [--project] on the command line or set the property [core/project].',
    source: 'recorded with Google Cloud SDK 528',
    cause: 'The command names no project and gcloud has no default.',
    fix: 'Set one. `npm run deploy` takes the project from the environment file and always names it.',
    commands: ['gcloud config set project {project}'],
  },
  // --- The project ---
  {
    id: 'api-not-enabled',
    area: 'project',
    title: 'An API is not enabled',
    pattern:
      /API has not been used in project (?<consumer>[\w-]+) before or it is disabled\. Enable it by visiting \S*?\/apis\/api\/(?<api>[\w.-]+)\/overview/,
    sample:
      'Error 403: Cloud Run Admin API has not been used in project 157914570064 before or it is disabled. Enable it by visiting https://console.developers.google.com/apis/api/run.googleapis.com/overview?project=157914570064 then retry. If you enabled this API recently, wait a few minutes for the action to propagate to our systems and retry.',
    source: 'https://github.com/GoogleCloudPlatform/emblem/issues/757',
    cause: '`{api}` is off in the project. Once enabled, it takes a minute or more until every server knows.',
    fix: 'Enable it, wait a minute, try again. `npm run deploy -- up` enables all that are needed.',
    commands: ['gcloud services enable {api} --project={consumer}'],
  },
  {
    id: 'billing-disabled',
    area: 'project',
    title: 'The project has no billing account',
    pattern:
      /Billing account for project '(?<consumer>[\w-]+)' is not found|requires billing to be enabled|owning project is disabled in state|has billing disabled/i,
    sample:
      "ERROR: (gcloud.services.enable) FAILED_PRECONDITION: Billing account for project '522837608576' is not found. Billing must be enabled for activation of service(s) 'compute.googleapis.com,compute.googleapis.com,compute.googleapis.com' to proceed.",
    source: 'https://github.com/kyegomez/zeta/issues/71',
    cause:
      'Nothing here works in a project that is not linked to an open billing account. GPUs moreover need a paid one, no free trial.',
    fix: 'Link an open billing account; the first command lists those you may use.',
    commands: [
      'gcloud billing accounts list --filter=open=true',
      'gcloud billing projects link {project} --billing-account=BILLING_ACCOUNT',
    ],
  },
  // --- GPUs and quota ---
  {
    id: 'gpu-type-not-supported',
    area: 'gpu',
    title: 'Cloud Run has no such GPU',
    pattern: /only (?<supported>'nvidia-[\w-]+'(?:(?:, | and )'[\w-]+')*) are supported/,
    sample:
      "only 'nvidia-l4', 'nvidia-a100-80gb', 'nvidia-h100-80gb' and 'nvidia-rtx-pro-6000-96gb' are supported",
    source: `one of the three errors that this tool was made for: a T4 asked for. ${CLOUD_RUN_JOB_GPU}; this text ${QUOTED}`,
    cause:
      'The GPU that was asked for does not exist on Cloud Run: there is no T4, V100, P100 or A10. Of those it names, the L4 is the one that every project gets by itself.',
    fix: 'Ask for `nvidia-l4`: it is enough for every Whisper model.',
    commands: [
      'npm run deploy -- up',
      'gcloud beta run jobs update {job} --region={region} --project={project} --gpu=1 --gpu-type=nvidia-l4',
      'gcloud run services update {service} --region={region} --project={project} --gpu=1 --gpu-type=nvidia-l4 --no-gpu-zonal-redundancy',
    ],
  },
  {
    id: 'job-zonal-redundancy',
    area: 'gpu',
    title: 'A job with a GPU cannot have zonal redundancy',
    pattern: /unable to offer GPU enabled instances with zonal redundancy due to capacity limitations/,
    sample:
      'Currently Cloud Run jobs are unable to offer GPU enabled instances with zonal redundancy due to capacity limitations.',
    source: `one of the three errors that this tool was made for: an L4 job. ${CLOUD_RUN_JOB_GPU}; this text ${QUOTED}`,
    cause:
      'Zonal redundancy reserves a GPU in a second zone. Jobs cannot have it, but it has to be declined in so many words.',
    fix: 'Decline it: in YAML `run.googleapis.com/gpu-zonal-redundancy-disabled: "true"` on the template of the execution, which is how `npm run deploy` writes its jobs. It also makes the GPU a third cheaper.',
    commands: [
      'npm run deploy -- up',
      'gcloud run jobs replace job.yaml --region={region} --project={project}',
    ],
  },
  {
    id: 'no-zonal-redundancy-quota',
    area: 'gpu',
    title: 'There is no quota for GPUs with zonal redundancy',
    pattern: /You do not have quota for using GPUs with zonal redundancy/,
    sample:
      'spec.template.metadata.annotations[autoscaling.knative.dev/maxScale]: You do not have quota for using GPUs with zonal redundancy. Learn more about GPU zonal redundancy: g.co/cloudrun/gpu-redundancy-help To request quota: g.co/cloudrun/gpu-quota',
    source: `${CLOUD_RUN_GPU}; this text ${QUOTED}`,
    cause:
      'A service with a GPU gets zonal redundancy unless it declines, and the quota for that is 0 in a new project. Without it three L4 per region are given at once.',
    fix: 'Decline zonal redundancy, which is how `npm run deploy` writes its services.',
    commands: [
      'npm run deploy -- up',
      'gcloud run services update {service} --region={region} --project={project} --no-gpu-zonal-redundancy',
    ],
  },
  {
    id: 'no-gpu-quota',
    area: 'gpu',
    title: 'There is no GPU quota in this region',
    pattern: /You do not have quota for using GPUs without zonal redundancy/,
    sample:
      'ERROR: (gcloud.run.deploy) spec.template.metadata.annotations[autoscaling.knative.dev/maxScale]: You do not have quota for using GPUs without zonal redundancy. Learn more about GPU zonal redundancy: g.co/cloudrun/gpu-redundancy-help To request quota: g.co/cloudrun/gpu-quota',
    source: `${CLOUD_RUN_GPU}; this text ${QUOTED}`,
    cause:
      'The project may use no GPU in {region}. New projects with a paid billing account get three L4 in the regions that have them; free trials get none, and some regions are by invitation (asia-south1, at times us-central1).',
    fix: 'Deploy to europe-west1, europe-west4 or us-east4; where the quota is 0 there too, upgrade the billing account, then ask for quota at https://g.co/cloudrun/gpu-quota.',
    commands: [
      'gcloud beta quotas info describe NvidiaL4GpuAllocNoZonalRedundancyPerProjectRegion --service=run.googleapis.com --project={project}',
      'gcloud beta quotas preferences create --service=run.googleapis.com --quota-id=NvidiaL4GpuAllocNoZonalRedundancyPerProjectRegion --preferred-value=1 --dimensions=region={region} --project={project}',
    ],
  },
  {
    id: 'gpu-quota-below-max-instances',
    area: 'gpu',
    title: 'More instances are allowed than there are GPUs',
    pattern:
      /(?<quota>Nvidia\w+PerProjectRegion) requested: (?<requested>\d+) allowed: (?<allowed>\d+)|Max instances must be set to (?<fewer>\d+) or fewer in order to set GPU requirements(?!.{0,300}PerProjectRegion requested)/,
    sample: `ERROR: (gcloud.run.services.update) spec.template.metadata.annotations[autoscaling.knative.dev/maxScale]:
  Max instances must be set to 3 or fewer in order to set GPU requirements.
To request quota: g.co/cloudrun/gpu-quota
Quota violated:
  NvidiaL4GpuAllocNoZonalRedundancyPerProjectRegion requested: 4 allowed: 3`,
    source: `https://docs.cloud.google.com/run/quotas; this text ${QUOTED}`,
    derive: ({ requested, allowed, fewer }) => ({
      numbers:
        requested === undefined
          ? `Here ${fewer} is the most.`
          : `Here ${requested} are asked for and ${allowed} allowed.`,
    }),
    cause:
      'Cloud Run compares the quota with the greatest number of instances of a revision when it is made, not with those that run. When they run, all services and jobs of the region share it, in every environment of the project. {numbers}',
    fix: 'Lower the greatest number of instances in the environment file, delete what is no longer used, or ask for more at https://g.co/cloudrun/gpu-quota.',
    commands: [
      'npm run deploy -- up',
      'gcloud run services update {service} --region={region} --project={project} --max-instances=1',
    ],
  },
  {
    id: 'gpu-quota-used-up',
    area: 'gpu',
    title: 'The GPU quota of the region is used up',
    pattern: /Quota exceeded for total allowable count of GPUs per project per region/,
    sample:
      "Revision 'tf-test-cloudrun-srve4p13q2yof-00001-n45' is not ready and cannot serve traffic. Quota exceeded for total allowable count of GPUs per project per region.",
    source: 'https://github.com/GoogleCloudPlatform/magic-modules/pull/17149',
    cause:
      'All GPUs of the quota are taken by other services and jobs of the project in this region, or zonal redundancy was not declined, for which the quota is another one.',
    fix: 'Delete or shrink what is not needed. The first command shows what there is.',
    commands: [
      'gcloud run services list --region={region} --project={project}',
      'gcloud run services update {service} --region={region} --project={project} --no-gpu-zonal-redundancy --max-instances=1',
    ],
  },
  {
    id: 'memory-quota',
    area: 'gpu',
    title: 'The memory quota of the region is too small',
    pattern: /MemAllocPerProjectRegion requested: (?<requested_bytes>\d+) allowed: (?<allowed_bytes>\d+)/,
    sample: `ERROR: (gcloud.beta.run.deploy)
spec.template.metadata.annotations[autoscaling.knative.dev/maxScale]:
Max instances must be set to 0 or fewer to set the requested total memory.

Consider running your workload in a region with greater capacity,
or requesting an increase in quota for this region.

Quota violated:
MemAllocPerProjectRegion requested: 85899345920
allowed: 42949672960`,
    source: 'https://github.com/googlecodelabs/feedback/issues/2311',
    derive: ({ requested_bytes, allowed_bytes }) => ({
      requested_gib: String(Number(requested_bytes) / GIB),
      allowed_gib: String(Number(allowed_bytes) / GIB),
    }),
    cause:
      'The greatest number of instances times their memory is {requested_gib} GiB, and the project may have {allowed_gib} GiB in the region. New projects have 40 GiB: one instance of 32 GiB, or two of 16 GiB.',
    fix: 'Set the greatest number of instances to 1 in the environment file, or take 4 vCPU and 16 GiB; or ask for more memory at https://console.cloud.google.com/iam-admin/quotas.',
    commands: [
      'npm run deploy -- up',
      'gcloud run services update {service} --region={region} --project={project} --max-instances=1',
      'gcloud beta quotas preferences create --service=run.googleapis.com --quota-id=MemAllocPerProjectRegion --preferred-value={requested_bytes} --dimensions=region={region} --project={project}',
    ],
  },
  {
    id: 'cpu-quota',
    area: 'gpu',
    title: 'The CPU quota of the region is too small',
    pattern: /CpuAllocPerProjectRegion requested: (?<requested_millis>\d+) allowed: (?<allowed_millis>\d+)/,
    sample: `ERROR: (gcloud.run.deploy) spec.template.metadata.annotations[autoscaling.knative.dev/maxScale]:
Max instances must be set to 2 or fewer to set the requested total CPU.

Quota violated:
CpuAllocPerProjectRegion requested: 32000 allowed: 20000`,
    source: `https://github.com/googlecodelabs/feedback/issues/1856 has both quotas in one text; this one ${QUOTED}`,
    derive: ({ requested_millis, allowed_millis }) => ({
      requested_cpus: String(Number(requested_millis) / 1_000),
      allowed_cpus: String(Number(allowed_millis) / 1_000),
    }),
    cause:
      'The greatest number of instances times their CPUs is {requested_cpus}, and the project may have {allowed_cpus} in the region. New projects have 20.',
    fix: 'Lower the greatest number of instances in the environment file, or ask for more at https://console.cloud.google.com/iam-admin/quotas.',
    commands: [
      'npm run deploy -- up',
      'gcloud run services update {service} --region={region} --project={project} --max-instances=1',
      'gcloud beta quotas preferences create --service=run.googleapis.com --quota-id=CpuAllocPerProjectRegion --preferred-value={requested_millis} --dimensions=region={region} --project={project}',
    ],
  },
  {
    id: 'gpu-needs-instance-billing',
    area: 'gpu',
    title: 'A GPU needs instance-based billing',
    pattern: /must be disabled in order to set GPU requirements/,
    sample: 'must be disabled in order to set GPU requirements',
    source: CLOUD_RUN_CONFORMANCE,
    cause:
      'A service with a GPU is billed as long as its instance lives; CPU throttling, which is billing by request, has to be off.',
    fix: 'In YAML `run.googleapis.com/cpu-throttling: "false"` on the template of the revision. It still scales to zero.',
    commands: [
      'npm run deploy -- up',
      'gcloud run services update {service} --region={region} --project={project} --no-cpu-throttling',
    ],
  },
  {
    id: 'gpu-needs-more-cpu-and-memory',
    area: 'gpu',
    title: 'A GPU needs at least 4 vCPU and 16 GiB',
    pattern: /CPU must be at least (?<cpus>\d+)|memory must be at least (?<memory>\d+Gi)/,
    sample: 'In order to set GPU, memory must be at least 16Gi',
    source: `${CLOUD_RUN_CONFORMANCE}; ${CLOUD_RUN_GPU}`,
    cause: 'An L4 comes with at least 4 vCPU and 16 GiB, whatever the program needs.',
    fix: 'Take 4 vCPU with 16 GiB, or 8 with 32 GiB, which is what Google recommends.',
    commands: [
      'npm run deploy -- up',
      'gcloud run services update {service} --region={region} --project={project} --cpu=4 --memory=16Gi',
    ],
  },
  {
    id: 'gpu-needs-gen2',
    area: 'gpu',
    title: 'A GPU needs the second-generation environment',
    pattern: /Execution environment must be set to gen2 in order to set GPU/,
    sample: 'Execution environment must be set to gen2 in order to set GPU',
    source: CLOUD_RUN_CONFORMANCE,
    cause: 'The first generation emulates Linux and passes no GPU through.',
    fix: 'In YAML `run.googleapis.com/execution-environment: gen2` on the template of the revision.',
    commands: [
      'npm run deploy -- up',
      'gcloud run services update {service} --region={region} --project={project} --execution-environment=gen2',
    ],
  },
  {
    id: 'no-capacity-in-zone',
    area: 'gpu',
    title: 'The zone has no such machine left',
    pattern: /ZONE_RESOURCE_POOL_EXHAUSTED|does not have enough resources available to fulfill the request/,
    sample:
      'Error 503: SERVICE UNAVAILABLE: errors:{code:"ZONE_RESOURCE_POOL_EXHAUSTED_WITH_DETAILS" message:"The zone \'projects/$PROJECT/zones/us-central1-a\' does not have enough resources available to fulfill the request."}',
    source: 'https://github.com/Privatehive/gcp-hosted-github-runner/issues/8',
    cause:
      'Google has no free machine of this kind in this zone at the moment. It is not your quota, and spot machines meet it most.',
    fix: 'Try another zone or region, later, or without spot. Jobs need nothing: one that was refused goes to the next backend.',
    commands: ['gcloud compute accelerator-types list --filter=name=nvidia-l4 --project={project}'],
  },
  // --- Services and jobs ---
  {
    id: 'cpu-memory-pair',
    area: 'manifest',
    title: 'CPU and memory do not go together',
    pattern:
      /For (?<cpus>[\d.]+) CPU, memory must be between (?<least>\d+\w?i) and (?<most>\d+\w?i) inclusive/,
    sample:
      'ERROR: (gcloud.beta.run.deploy) Invalid value specified for memory with gen2 execution environment. For 1.0 CPU, memory must be between 512Mi and 4Gi inclusive.',
    source: 'https://github.com/MarkEdmondson1234/googleCloudRunner/issues/137',
    cause: 'Each number of CPUs allows a range of memory; {cpus} CPU allow {least} to {most}.',
    fix: 'With an L4 that leaves 4 vCPU with exactly 16 GiB, or 8 vCPU with 16 to 32 GiB. Change the shape in the environment file.',
    commands: ['npm run deploy -- up'],
  },
  {
    id: 'timeout-too-long',
    area: 'manifest',
    title: 'The request timeout is above an hour',
    pattern: /timeout: maximum allowed time is one hour/,
    sample: 'Violation in UpdateServiceRequest.service.template.timeout: maximum allowed time is one hour.',
    source: `https://docs.cloud.google.com/run/docs/configuring/request-timeout; this text ${QUOTED}`,
    cause:
      'A request of a service may last 3600 s. Longer recordings do not need more: a worker goes on in a new task.',
    fix: 'Set the timeout to at most 3600 s.',
    commands: [
      'npm run deploy -- up',
      'gcloud run services update {service} --region={region} --project={project} --timeout=3600',
    ],
  },
  {
    id: 'startup-probe-timeout',
    area: 'manifest',
    title: 'The startup probe waits longer than its period',
    pattern: /startup_probe\.timeout_seconds: must be less than period_seconds/,
    sample:
      'ERROR: (gcloud.run.services.replace) service.spec.template.spec.containers[0].startup_probe.timeout_seconds: must be less than period_seconds.',
    source: `https://docs.cloud.google.com/run/docs/configuring/healthchecks; this text ${QUOTED}`,
    cause:
      'A probe must have its answer before the next one is due. Besides, `failureThreshold` × `periodSeconds` may not exceed 240 s.',
    fix: 'Raise `periodSeconds` or lower `timeoutSeconds`; the generated manifest has 2 s and 1 s.',
    commands: ['npm run deploy -- up'],
  },
  {
    id: 'annotation-in-the-wrong-place',
    area: 'manifest',
    title: 'An annotation stands in the wrong place of the YAML',
    pattern:
      /Annotation is not supported on resources of kind '(?<kind>\w+)'\. Supported kinds are: (?<right_kind>\w+)/,
    sample: `ERROR: (gcloud.run.services.replace) INVALID_ARGUMENT:
The request has errors
- @type: type.googleapis.com/google.rpc.BadRequest
  fieldViolations:
  - description: Annotation is not supported on resources of kind 'Service'.
                 Supported kinds are: Revision
    field: metadata.annotations[autoscaling.knative.dev/maxScale]`,
    source: `https://docs.cloud.google.com/run/docs/reference/yaml/v1; this text ${QUOTED}`,
    cause:
      'It belongs to the {right_kind}, not to the {kind}: what concerns instances (scaling, GPU redundancy, billing) goes to `spec.template.metadata.annotations`.',
    fix: 'Move it there in a manifest of your own. Generated ones have it right; make them anew.',
    commands: ['npm run deploy -- plan'],
  },
  {
    id: 'beta-feature',
    area: 'manifest',
    title: 'A beta feature is used without saying so',
    pattern: /feature is not supported in the declared launch stage/,
    sample: 'The feature is not supported in the declared launch stage',
    source: CLOUD_RUN_TROUBLESHOOTING,
    cause: 'The manifest uses something that is not generally available.',
    fix: 'Put `run.googleapis.com/launch-stage: BETA` on the metadata of the service or job.',
    commands: ['npm run deploy -- plan'],
  },
  {
    id: 'changed-meanwhile',
    area: 'manifest',
    title: 'Somebody else deployed at the same time',
    pattern:
      /Conflict for resource '(?<resource>[\w-]+)': version '\d+' was specified but current version is/,
    sample:
      "ERROR: (gcloud.run.deploy) ABORTED: Conflict for resource 'wheeldeal': version '1785219956656665' was specified but current version is '1785230591401735'.",
    source: `https://docs.cloud.google.com/run/docs/reference/rest/v1/namespaces.services/replaceService; this text ${QUOTED}`,
    cause: '`{resource}` was changed between reading and writing it, by another deploy or in the console.',
    fix: 'Run it again: it starts from the present state.',
    commands: ['npm run deploy -- up'],
  },
  {
    id: 'container-does-not-listen',
    area: 'manifest',
    title: 'The container did not start listening',
    pattern:
      /container failed to start and listen on the port defined provided by the PORT(?:=(?<port>\d+))? environment variable|Failed to start and then listen on the port defined by the PORT environment variable/,
    sample:
      "ERROR: (gcloud.run.deploy) Revision 'monolith-00002-dj9' is not ready and cannot serve traffic. The user-provided container failed to start and listen on the port defined provided by the PORT=8080 environment variable within the allocated timeout. This can happen when the container port is misconfigured or if the timeout is too short. The health check timeout can be extended. Logs for this revision might contain more information.",
    source: 'https://github.com/googlecodelabs/monolith-to-microservices/issues/110',
    cause:
      'It ended, or listens elsewhere. Ours listen within a second, models or not, so it nearly always ended: a wrong environment (told in a sentence in its log), a missing model, an image for another processor. `HOST` must be 0.0.0.0.',
    fix: 'Read its log; what it says last is the reason, and can be explained in turn.',
    commands: [
      'gcloud run services logs read {service} --region={region} --project={project} --limit=50',
      'npm run deploy -- doctor --explain -',
    ],
  },
  {
    id: 'startup-probe-failed',
    area: 'manifest',
    title: 'The startup probe got no answer',
    pattern: /container failed the configured startup probe checks/,
    sample:
      'ERROR: (gcloud.run.services.update) The user-provided container failed the configured startup probe checks.',
    source: `https://docs.cloud.google.com/run/docs/configuring/healthchecks; this text ${QUOTED}`,
    cause:
      'The probe asked for `/health/live` and nothing answered with 200 in its time, 240 s at most. The service answers there before its models are loaded, so it ended, or the probe asks for another path or port. A path that ends in `z` never arrives.',
    fix: 'Read its log, and compare the probe with the manifest that `plan` shows.',
    commands: [
      'gcloud run services logs read {service} --region={region} --project={project} --limit=50',
      'npm run deploy -- plan',
    ],
  },
  {
    id: 'container-import',
    area: 'manifest',
    title: 'The image could not be taken over in time',
    pattern: /encountered an error during container import|Resource readiness deadline exceeded/,
    sample:
      'The service has encountered an error during container import. Please try again later. Resource readiness deadline exceeded.',
    source: CLOUD_RUN_TROUBLESHOOTING,
    cause: 'Cloud Run copies an image once, which takes minutes with models in it, and gave up waiting.',
    fix: 'Run it again; what was copied stays. If it fails again, build with fewer models.',
    commands: ['npm run deploy -- up'],
  },
  // --- Images and builds ---
  {
    id: 'image-not-found',
    area: 'images',
    title: 'There is no such image',
    pattern: /Image '(?<image>[\w./:@$*-]+)' not found/,
    sample:
      "ERROR: (gcloud.run.deploy) Image 'us-central1-docker.pkg.dev/computeengine-506321/cloud-run-source-deploy/aegis-ai:latest' not found.",
    source: `https://docs.cloud.google.com/run/docs/deploying; this text ${QUOTED}`,
    cause: '`{image}` was never pushed, or under another name, tag, project or region.',
    fix: 'Build it; `up` builds what is missing. The second command shows what there is.',
    commands: [
      'npm run deploy -- up',
      'gcloud artifacts docker images list {region}-docker.pkg.dev/{project}/{repository} --include-tags',
    ],
  },
  {
    id: 'image-not-readable',
    area: 'images',
    title: 'Cloud Run may not read the image',
    pattern:
      /Cloud Run Service Agent(?: (?<agent>service-\d+@[\w.-]+))? must have permission to read the image, (?<image>[\w./:@-]+\w)/,
    sample:
      'ERROR: (gcloud.run.deploy) Google Cloud Run Service Agent service-989728667853@serverless-robot-prod.iam.gserviceaccount.com must have permission to read the image, us-central1-docker.pkg.dev/develop-381422/registry/web:latest. Ensure that the provided container image URL is correct and that the above account has permission to access the image.',
    source: `${CLOUD_RUN_TROUBLESHOOTING}#cloud-run-service-agent`,
    derive: ({ agent }) => (agent === undefined ? {} : { reader: agent }),
    cause:
      'The image is in another project, or its name is wrong, or the Cloud Run API was enabled a minute ago and its service agent is not known everywhere.',
    fix: 'Wait a minute and try again; for an image of another project grant the service agent the right to read that repository.',
    commands: [
      'npm run deploy -- up',
      'gcloud artifacts repositories add-iam-policy-binding {repository} --location={region} --project={project} --member=serviceAccount:{reader} --role=roles/artifactregistry.reader',
    ],
  },
  {
    id: 'repository-missing',
    area: 'images',
    title: 'The repository for images does not exist',
    pattern: /name unknown: Repository "(?<missing>[\w-]+)" not found/,
    sample: 'name unknown: Repository "helix-repo" not found',
    source: `https://docs.cloud.google.com/artifact-registry/docs/troubleshooting; this text ${QUOTED}`,
    cause: 'Pushing an image does not make its repository. It is noticed only after the whole build.',
    fix: 'Make it; `up` does so before it builds.',
    commands: [
      'gcloud artifacts repositories create {missing} --repository-format=docker --location={region} --project={project}',
    ],
  },
  {
    id: 'push-denied',
    area: 'images',
    title: 'The build may not push its image',
    pattern:
      /Permission ['"]artifactregistry\.repositories\.uploadArtifacts['"] denied(?: on resource "projects\/(?<image_project>[\w-]+)\/locations\/(?<location>[\w-]+)\/repositories\/(?<target>[\w-]+)")?/,
    sample:
      'denied: Permission "artifactregistry.repositories.uploadArtifacts" denied on resource "projects/sayouzone-ai/locations/us-central1/repositories/gemma3-repo" (or it may not exist)',
    source: `https://docs.cloud.google.com/artifact-registry/docs/access-control; this text ${QUOTED}`,
    derive: ({ image_project, location, target }) => ({
      ...(image_project !== undefined && { project: image_project }),
      ...(location !== undefined && { region: location }),
      ...(target !== undefined && { repository: target }),
    }),
    cause:
      'The account of the build lacks the right to write to the repository, or the repository does not exist.',
    fix: 'Grant it on that repository alone; `up` does so for the account that it builds with.',
    commands: [
      'npm run deploy -- up',
      'gcloud artifacts repositories add-iam-policy-binding {repository} --location={region} --project={project} --member=serviceAccount:{service_account} --role=roles/artifactregistry.writer',
    ],
  },
  {
    id: 'build-source-not-readable',
    area: 'images',
    title: 'The build may not read its source',
    pattern:
      /could not resolve source: googleapi: Error 403: (?<builder>[\w.@-]+) does not have storage\.objects\.get access/,
    sample:
      "ERROR: (gcloud.builds.submit) INVALID_ARGUMENT: could not resolve source: googleapi: Error 403: run-app-cloudbuild@my-project-id.iam.gserviceaccount.com does not have storage.objects.get access to the Google Cloud Storage object. Permission 'storage.objects.get' denied on resource (or it may not exist)., forbidden",
    source: `https://docs.cloud.google.com/build/docs/cloud-build-service-account-updates; this text ${QUOTED}`,
    cause:
      '`{builder}` runs the build and may not read what was uploaded. Without an account of its own a build runs as the default compute account, which has no rights in new projects and is forbidden by many organisations.',
    fix: 'Build with an account of its own, as `up` does. By hand: let it read the bucket with the sources.',
    commands: [
      'npm run deploy -- up',
      'gcloud storage buckets add-iam-policy-binding gs://{bucket}-build --member=serviceAccount:{builder} --role=roles/storage.objectViewer',
    ],
  },
  {
    id: 'build-secret-not-readable',
    area: 'images',
    title: 'The build may not read its secret',
    pattern:
      /failed to access secret version for secret projects\/(?<secret_project>[\w-]+)\/secrets\/(?<build_secret>[\w-]+)\//,
    sample:
      "ERROR: build step 0 \"gcr.io/cloud-builders/docker\" failed: failed to access secret version for secret projects/leafy-bond-456001-r7/secrets/HF_TOKEN/versions/latest: rpc error: code = PermissionDenied desc = Permission 'secretmanager.versions.access' denied for resource 'projects/leafy-bond-456001-r7/secrets/HF_TOKEN/versions/latest' (or it may not exist).",
    source: 'https://github.com/googlecodelabs/feedback/issues/1500',
    cause: 'The account of the build lacks the right to read `{build_secret}`, or the secret has no version.',
    fix: 'Grant it on that secret alone. Or build without the token: then there is no diarization, and the backend says so.',
    commands: [
      'gcloud secrets add-iam-policy-binding {build_secret} --project={secret_project} --member=serviceAccount:{service_account} --role=roles/secretmanager.secretAccessor',
    ],
  },
  {
    id: 'gated-model',
    area: 'images',
    title: 'The diarization model is gated',
    pattern:
      /Cannot access gated repo for url \S*?huggingface\.co\/(?<model>[\w.-]+\/[\w.-]+)\/|Access to model (?<restricted>[\w.-]+\/[\w.-]+\w) is restricted|Could not download '(?<pipeline>pyannote\/[\w.-]+)'/,
    sample: `Cannot access gated repo for url https://huggingface.co/pyannote/speaker-diarization-3.1/resolve/main/config.yaml.
Access to model pyannote/speaker-diarization-3.1 is restricted. You must have access to it and be authenticated to access it. Please log in.`,
    source: 'https://github.com/rishikanthc/Scriberr/issues/448',
    derive: ({ model, restricted, pipeline }) => ({ gated: model ?? restricted ?? pipeline ?? 'the model' }),
    cause:
      'Hugging Face gives {gated} only to accounts that accepted its conditions, and to tokens of such an account that may read gated repositories.',
    fix: 'Accept the conditions at https://hf.co/{gated} and of the models it names, make a token with read access, and store it as the build secret. Or build without it.',
    commands: ['gcloud secrets versions add {secret} --data-file=- --project={project}'],
  },
  {
    id: 'build-disk-full',
    area: 'images',
    title: 'The build ran out of disk',
    pattern: /no space left on device/i,
    sample:
      'failed to register layer: Error processing tar file(exit status 1): write /usr/share/dotnet/sdk/2.2.402/Sdks/NuGet.Build.Tasks.Pack/CoreCLR/NuGet.Build.Tasks.Pack.dll: no space left on device',
    source: 'https://github.com/GoogleCloudPlatform/cloud-run-button/issues/140',
    cause:
      'An image with CUDA and models needs several times its size while it is built; Cloud Build gives 100 GB unless asked for more.',
    fix: 'Build with a larger disk, or with fewer models.',
    commands: [
      'gcloud builds submit . --config=cloudbuild.yaml --disk-size=200 --region={region} --project={project}',
    ],
  },
  {
    id: 'build-timeout',
    area: 'images',
    title: 'The build took too long',
    pattern: /build timed out\. Use the \[--timeout=DURATION\] flag|completed with status "TIMEOUT"/,
    sample: `Your build timed out. Use the [--timeout=DURATION] flag to change the timeout threshold.
ERROR: (gcloud.builds.submit) build 6e8bf48d-3fa2-4596-befc-d5ac01d6ebdf completed with status "TIMEOUT"`,
    source: `https://docs.cloud.google.com/build/docs/build-config-file-schema#timeout; this text ${QUOTED}`,
    cause: 'Cloud Build ends a build after 60 minutes unless it is given more.',
    fix: 'Give it more time and a larger machine.',
    commands: [
      'gcloud builds submit . --config=cloudbuild.yaml --timeout=2h --machine-type=e2-highcpu-8 --region={region} --project={project}',
    ],
  },
  {
    id: 'build-step-failed',
    area: 'images',
    title: 'A step of the build failed',
    isGeneral: true,
    pattern:
      /BUILD FAILURE: Build step failure: build step (?<step>\d+)|build (?<build>[0-9a-f]{8}-[0-9a-f-]{27}) completed with status "FAILURE"/,
    sample:
      'BUILD FAILURE: Build step failure: build step 0 "gcr.io/cloud-builders/docker" failed: step exited with non-zero status: 1',
    source: `https://docs.cloud.google.com/build/docs/troubleshooting; this text ${QUOTED}`,
    cause: 'This is only the last line; the reason stands in the log of the build, above it.',
    fix: 'Read the log; the last lines of the step that failed can be explained in turn.',
    commands: [
      'gcloud builds list --limit=3 --region={region} --project={project}',
      'gcloud builds log BUILD --region={region} --project={project}',
    ],
  },
  // --- Permissions and organisation policies ---
  {
    id: 'act-as-default-account',
    area: 'permissions',
    title: 'The default compute account was used',
    pattern:
      /Permission 'iam\.serviceaccounts\.actAs' denied on service account (?<default_account>\w+-compute@developer\.gserviceaccount\.com)/i,
    sample:
      "ERROR: (gcloud.run.deploy) User [email@gmail.com] does not have permission to access namespace [my-project-tutorials-xxxxxx] (or it may not exist): Permission 'iam.serviceaccounts.actAs' denied on service account xxxxxxxxxx-compute@developer.gserviceaccount.com (or it may not exist).",
    source: 'https://github.com/googlecodelabs/feedback/issues/751',
    cause:
      'No service account was named, so Cloud Run took the default one, which is deleted or disabled, or you may not use it. Organisations do well to forbid it: it may do nearly everything.',
    fix: 'Name an account of its own for each service, as `up` does. Nothing of Zeroscribe needs the default account.',
    commands: [
      'npm run deploy -- up',
      'gcloud run services update {service} --region={region} --project={project} --service-account={service_account}',
    ],
  },
  {
    id: 'act-as-denied',
    area: 'permissions',
    title: 'You may not deploy as this service account',
    pattern:
      /iam\.serviceaccounts\.actAs['"] (?:denied on service account|for the resource) "?(?:projects\/[\w-]+\/serviceAccounts\/)?(?!\w+-compute@developer)(?<runs_as>[\w.-]+@[\w.-]+\w)/i,
    sample:
      "ERROR: (gcloud.run.deploy) PERMISSION_DENIED: Permission 'iam.serviceaccounts.actAs' denied on service account data-loss-prevention@govuk-knowledge-graph-staging.iam.gserviceaccount.com (or it may not exist).",
    source: 'https://github.com/alphagov/govuk-knowledge-graph-gcp/pull/806',
    cause:
      'Whoever deploys a service, or makes a task that carries its token, needs the right to act as `{runs_as}`; or that account does not exist.',
    fix: 'Grant it on that account alone, never on the project. It takes a minute or two to count.',
    commands: [
      'gcloud iam service-accounts add-iam-policy-binding {runs_as} --member={account} --role=roles/iam.serviceAccountUser --project={project}',
    ],
  },
  {
    id: 'signing-denied',
    area: 'permissions',
    title: 'cpu-service may not sign links',
    pattern:
      /iam\.serviceAccounts\.signBlob['"]? (?:denied on resource|is required to perform this operation|on itself)/i,
    sample:
      "SigningError: Permission 'iam.serviceAccounts.signBlob' denied on resource (or it may not exist).",
    source: 'https://github.com/gronxb/hot-updater/issues/291',
    cause:
      'Mistral fetches recordings by links that cpu-service signs. On Cloud Run it has no key, so Google signs in its name, which it must be allowed to ask for. Until then it uploads them itself, which takes its time and network.',
    fix: 'Let its account sign for itself, and for nobody else; `up` does that for an environment with a backend of the kind voxtral. It takes a minute or two to count.',
    commands: [
      'gcloud services enable iamcredentials.googleapis.com --project={project}',
      'gcloud iam service-accounts add-iam-policy-binding {service_account} --member=serviceAccount:{service_account} --role=roles/iam.serviceAccountTokenCreator --project={project}',
    ],
  },
  {
    id: 'service-account-absent',
    area: 'permissions',
    title: 'The service account does not exist (yet)',
    pattern: /Service account (?<absent>[\w.-]+@[\w.-]+\w) does not exist/,
    sample:
      'ERROR: (gcloud.run.jobs.add-iam-policy-binding) INVALID_ARGUMENT: Service account handson-scheduler@sandbox-360407.iam.gserviceaccount.com does not exist.',
    source: `https://docs.cloud.google.com/iam/docs/service-accounts-create says that it may take a minute; this text ${QUOTED}`,
    cause: '`{absent}` was made a moment ago and is not known everywhere, or it was deleted.',
    fix: 'Wait a minute and run it again. The command tells whether it is there.',
    commands: ['gcloud iam service-accounts describe {absent} --project={project}', 'npm run deploy -- up'],
  },
  {
    id: 'policy-changed-meanwhile',
    area: 'permissions',
    title: 'Two changes of one policy met',
    pattern: /There were concurrent policy changes/,
    sample:
      'Error 409: There were concurrent policy changes. Please retry the whole read-modify-write with exponential backoff., aborted',
    source: `https://docs.cloud.google.com/iam/docs/retry-strategy; this text ${QUOTED}`,
    cause:
      'Rights are changed by reading a policy, changing it and writing it; somebody else wrote in between.',
    fix: 'Run it again.',
    commands: ['npm run deploy -- up'],
  },
  {
    id: 'permission-denied',
    area: 'permissions',
    title: 'A permission is missing',
    isGeneral: true,
    pattern: /Permission ['"]?(?<permission>[a-z]+\.[\w.]+)['"]? denied (?:on|for) resource/i,
    sample:
      "ERROR: (gcloud.run.services.replace) PERMISSION_DENIED: Permission 'run.services.get' denied on resource 'namespaces/***/services/ai-agency' (or resource may not exist).",
    source: 'https://github.com/google-github-actions/deploy-cloudrun/issues/427 has the same text',
    derive: ({ permission }) => ({ role: adminRole(permission ?? '') }),
    cause: 'The account that runs the command lacks `{permission}`, or what it names does not exist.',
    fix: 'Let an owner grant whoever deploys the role for it, or run the command as an account that has it. New grants take a minute or two.',
    commands: [
      'gcloud projects add-iam-policy-binding {project} --member={account} --role={role} --condition=None',
    ],
  },
  {
    id: 'public-access-forbidden',
    area: 'permissions',
    title: 'The organisation forbids public access',
    pattern: /do not belong to a permitted customer/,
    sample:
      'ERROR: (gcloud.run.services.add-iam-policy-binding) FAILED_PRECONDITION: One or more users named in the policy do not belong to a permitted customer, perhaps due to an organization policy.',
    source: `https://docs.cloud.google.com/resource-manager/docs/organization-policy/restricting-domains; this text ${QUOTED}`,
    cause:
      'The policy `iam.allowedPolicyMemberDomains` lets only accounts of the organisation have rights, so `allUsers` cannot be invoker of the API.',
    fix: 'Keep the API private (the default of `npm run deploy`) and let clients bring an identity token; or let the organisation make an exception for the project. The command shows the policy.',
    commands: [
      'gcloud org-policies describe iam.allowedPolicyMemberDomains --effective --project={project}',
      'gcloud run services proxy {service} --region={region} --project={project}',
    ],
  },
  {
    id: 'public-service-forbidden',
    area: 'permissions',
    title: 'The organisation wants every call of a service checked',
    pattern: /invoker_iam_disabled is not currently available/,
    sample: 'invoker_iam_disabled is not currently available',
    source: `https://docs.cloud.google.com/run/docs/securing/managing-access; this text ${QUOTED}`,
    cause:
      'A public API is deployed without Google’s check of the caller, and the policy `run.managed.requireInvokerIam` forbids that.',
    fix: 'Set `api.access` to `iam` in the environment file and name in `api.invokers` who may call it; or let the organisation make an exception.',
    commands: [
      'gcloud org-policies describe run.managed.requireInvokerIam --effective --project={project}',
      'npm run deploy -- up',
    ],
  },
  {
    id: 'location-forbidden',
    area: 'permissions',
    title: 'The organisation forbids this region',
    pattern: /Location (?<location>[\w:-]+) violates constraint constraints\/gcp\.resourceLocations/,
    sample:
      'Location ZONE:us-east1-b violates constraint constraints/gcp.resourceLocations on the resource projects/policy-violation-test/zones/us-east1-b/instances/instance-3.',
    source: 'https://docs.cloud.google.com/resource-manager/docs/organization-policy/defining-locations',
    cause: 'The policy `gcp.resourceLocations` allows other regions only, not {location}.',
    fix: 'Choose a region that is allowed and has L4 (europe-west1, europe-west4, us-east4). The command shows which are.',
    commands: ['gcloud org-policies describe gcp.resourceLocations --effective --project={project}'],
  },
  {
    id: 'job-overrides-denied',
    area: 'permissions',
    title: 'cpu-service may not start the job',
    pattern:
      /Permission 'run\.jobs\.runWithOverrides' denied(?: on resource '\S*?jobs\/(?<started_job>[\w-]+)')?/,
    sample:
      "Could not start scrape: 403 Permission 'run.jobs.runWithOverrides' denied on resource 'projects/infra-vertex-494621-v1/locations/us-central1/jobs/oranavigator-kb-scraper'",
    source: `https://docs.cloud.google.com/run/docs/reference/iam/roles; this text ${QUOTED}`,
    derive: ({ started_job }) => (started_job === undefined ? {} : { job: started_job }),
    cause:
      'Every run of the job gets its task in an environment variable, which is an override; the role of an invoker does not allow that.',
    fix: 'Grant cpu-service the role for it on that job.',
    commands: [
      'gcloud run jobs add-iam-policy-binding {job} --region={region} --project={project} --member=serviceAccount:{service_account} --role=roles/run.jobsExecutorWithOverrides',
    ],
  },
  // --- Bucket, queues and secrets ---
  {
    id: 'queue-name-too-recent',
    area: 'storage',
    title: 'A queue of this name was deleted a short while ago',
    pattern: /The queue cannot be created because a queue with this name existed too recently/,
    sample: 'Error 400: The queue cannot be created because a queue with this name existed too recently.',
    source:
      'https://docs.cloud.google.com/tasks/docs/reference/rest/v2/projects.locations.queues/delete (seven days; the API itself says three)',
    cause: 'Cloud Tasks keeps the name of a deleted queue for three to seven days.',
    fix: 'Choose another prefix for the queues in the environment file, or wait. Pause and purge a queue instead of deleting it.',
    commands: ['npm run deploy -- up'],
  },
  {
    id: 'queue-missing',
    area: 'storage',
    title: 'The queue does not exist (yet)',
    pattern:
      /Queue does not exist\.|The queue no longer exists, though a queue with this name existed recently/,
    sample:
      '5 NOT_FOUND: Queue does not exist. If you just created the queue, wait at least a minute for the queue to initialize.',
    source:
      'https://github.com/stackkit/laravel-google-cloud-tasks-queue/issues/103; the longer text as the API answers GetQueue',
    cause: 'The queue was made a moment ago, has another prefix or region, or was deleted.',
    fix: 'Wait a minute; then compare with what is there.',
    commands: ['gcloud tasks queues list --location={region} --project={project}', 'npm run deploy -- up'],
  },
  {
    id: 'enqueuer-missing',
    area: 'storage',
    title: 'A service may not use its queue',
    pattern:
      /lacks IAM permission "(?<permission>cloudtasks\.[\w.]+)"(?: for the resource "projects\/[\w<>-]+\/locations\/(?<location>[\w-]+)\/queues\/(?<denied_queue>[\w-]+))?/,
    sample:
      'The principal lacks IAM permission "cloudtasks.tasks.create" for the resource "projects/<project>/locations/us-east5/queues/processMercadoLivreMassImport" (or the resource may not exist).',
    source: `https://docs.cloud.google.com/tasks/docs/access-control; this text ${QUOTED}`,
    derive: ({ permission, location, denied_queue }) => ({
      role: permission?.endsWith('.delete')
        ? 'roles/cloudtasks.taskDeleter'
        : permission?.endsWith('.create')
          ? 'roles/cloudtasks.enqueuer'
          : 'roles/cloudtasks.viewer',
      ...(location !== undefined && { region: location }),
      ...(denied_queue !== undefined && { queue: denied_queue }),
    }),
    cause: 'The service account lacks `{permission}` on the queue, or the queue does not exist.',
    fix: 'Grant the role on that queue: enqueuer and viewer to all services, task deleter to the API, which cancels.',
    commands: [
      'gcloud tasks queues add-iam-policy-binding {queue} --location={region} --project={project} --member=serviceAccount:{service_account} --role={role}',
    ],
  },
  {
    id: 'secret-missing',
    area: 'storage',
    title: 'The secret has no version',
    pattern: /Secret projects\/[\w-]+\/secrets\/(?<missing_secret>[\w-]+)\/versions\/\w+ was not found/,
    sample: 'ERROR: Secret projects/351889420459/secrets/DATABASE_URL/versions/latest was not found',
    source: `https://docs.cloud.google.com/run/docs/configuring/services/secrets; this text ${QUOTED}`,
    cause: '`{missing_secret}` does not exist, or was made without ever getting a value.',
    fix: 'Give it a value; the command reads it from its input.',
    commands: ['gcloud secrets versions add {missing_secret} --data-file=- --project={project}'],
  },
  {
    id: 'secret-not-readable',
    area: 'storage',
    title: 'A service may not read its secret',
    pattern:
      /Permission denied on secret: projects\/[\w-]+\/secrets\/(?<denied_secret>[\w-]+)\/versions\/\w+ for Revision service account (?<reader>[\w.@-]+\w)/,
    sample:
      "Revision 'cloudrun-service-f5vmd' is not ready and cannot serve traffic. spec.template.spec.containers[0].env[0].value_from.secret_key_ref.name: Permission denied on secret: projects/729273278660/secrets/dbusersecret/versions/latest for Revision service account 729273278660-compute@developer.gserviceaccount.com. The service account used must be granted the 'Secret Manager Secret Accessor' role (roles/secretmanager.secretAccessor) at the secret, project or higher level.",
    source: 'https://github.com/terraform-google-modules/terraform-docs-samples/pull/168',
    cause: '`{reader}`, as which the service runs, lacks the right to read `{denied_secret}`.',
    fix: 'Grant it on that secret alone, then deploy again.',
    commands: [
      'gcloud secrets add-iam-policy-binding {denied_secret} --project={project} --member=serviceAccount:{reader} --role=roles/secretmanager.secretAccessor',
      'npm run deploy -- up',
    ],
  },
  {
    id: 'bucket-name-taken',
    area: 'storage',
    title: 'The name of the bucket is taken',
    pattern: /The requested bucket name is not available/,
    sample:
      'ERROR: (gcloud.storage.buckets.create) HTTPError 409: The requested bucket name is not available. The bucket namespace is shared by all users of the system. Please select a different name and try again.',
    source: `https://docs.cloud.google.com/storage/docs/troubleshooting; this text ${QUOTED}`,
    cause: 'All projects of the world share the names of buckets, and somebody else has this one.',
    fix: 'Choose another in the environment file; one that starts with the name of the project is rarely taken.',
    commands: ['npm run deploy -- up'],
  },
  {
    id: 'bucket-already-yours',
    area: 'storage',
    title: 'You have this bucket already',
    pattern: /Your previous request to create the named bucket succeeded and you already own it/,
    sample:
      'ERROR: (gcloud.storage.buckets.create) HTTPError 409: Your previous request to create the named bucket succeeded and you already own it.',
    source: `https://docs.cloud.google.com/storage/docs/troubleshooting; this text ${QUOTED}`,
    cause: 'Nothing is wrong: it was made before.',
    fix: 'Go on; `up` leaves it and puts its settings right.',
    commands: ['npm run deploy -- up'],
  },
  // --- Vertex AI ---
  {
    id: 'vertex-quota',
    area: 'vertex',
    title: 'The quota of Vertex AI does not suffice',
    pattern: /quota metrics exceed quota limits:[ -]*(?:aiplatform\.googleapis\.com\/)?(?<metric>\w+)/,
    sample:
      '"code": 429, "message": "The following quota metrics exceed quota limits: aiplatform.googleapis.com/custom_model_training_nvidia_l4_gpus", "status": "RESOURCE_EXHAUSTED"',
    source: 'https://github.com/GoogleCloudPlatform/stable-diffusion-on-gcp/issues/12',
    cause:
      'Vertex AI has quotas of its own, apart from those of Cloud Run and Compute Engine, and in a new project most are 0. Spot machines count on `custom_model_training_preemptible_nvidia_l4_gpus`.',
    fix: 'Ask for `{metric}` in {region} at https://console.cloud.google.com/iam-admin/quotas (service Vertex AI API). Until then jobs go to the next backend.',
    commands: [
      'gcloud beta quotas info list --service=aiplatform.googleapis.com --project={project} --filter=metric:{metric}',
    ],
  },
  {
    id: 'vertex-no-capacity',
    area: 'vertex',
    title: 'Vertex AI has no such machine free',
    pattern: /Resources are insufficient in region: (?<full_region>[\w-]+\w)/,
    sample: 'Resources are insufficient in region: us-central1.',
    source: `https://docs.cloud.google.com/vertex-ai/docs/training/troubleshooting; this text ${QUOTED}`,
    cause: 'Google has no free L4 in {full_region} at the moment. It is not your quota.',
    fix: 'Use `FLEX_START`, which waits for a machine, or another region. Jobs that were refused go to the next backend.',
    commands: ['npm run deploy -- up'],
  },
  {
    id: 'vertex-image-not-readable',
    area: 'vertex',
    title: 'Vertex AI may not read the image',
    pattern:
      /Vertex AI Service Agent (?<agent>service-\w+@[\w.-]+\w) does not have permission to access Artifact Registry repository projects\/(?<image_project>[\w-]+)\/locations\/(?<location>[\w-]+)\/repositories\/(?<target>[\w-]+)/,
    sample:
      'ERROR: (gcloud.ai.models.upload) FAILED_PRECONDITION: Vertex AI Service Agent service-XXX@gcp-sa-aiplatform.iam.gserviceaccount.com does not have permission to access Artifact Registry repository projects/gcp-vertex-deepsparse-example/locations/us-east1/repositories/deepsparse-server-images.',
    source: `https://docs.cloud.google.com/vertex-ai/docs/training/create-custom-container; this text ${QUOTED}`,
    cause: 'Vertex AI pulls the image as `{agent}`, which lacks the right to.',
    fix: 'Grant it on that repository.',
    commands: [
      'gcloud artifacts repositories add-iam-policy-binding {target} --location={location} --project={image_project} --member=serviceAccount:{agent} --role=roles/artifactregistry.reader',
    ],
  },
  // --- Mistral ---
  {
    id: 'mistral-unauthorized',
    area: 'mistral',
    title: 'Mistral refuses the key',
    pattern:
      /\\?"detail\\?" ?: ?\\?"Unauthorized\\?"|\\?"message\\?" ?: ?\\?"Unauthorized\\?", ?\\?"request_id|api\.mistral\.ai.{0,100}\b401\b|Mistral’s API does not accept the key/,
    sample: `API error occurred: Status 401
Body: {"detail":"Unauthorized"}`,
    source:
      'https://github.com/nextcloud/integration_openai/issues/332, https://github.com/agent0ai/agent-zero/issues/539',
    cause:
      'The key is deleted, expired or mistyped, or of another of Mistral’s products, which have keys of their own; or the organisation has no plan. One that was made a moment ago may take some minutes to count.',
    fix: 'Make a key at https://console.mistral.ai/api-keys and store it without anything around it. Instances read it when they start. `npm run deploy -- doctor` asks Mistral whether it is taken.',
    commands: [
      'gcloud secrets versions add {secret} --data-file=- --project={project}',
      'npm run deploy -- doctor',
    ],
  },
  {
    id: 'mistral-rate-limit',
    area: 'mistral',
    title: 'Mistral: too many requests',
    pattern:
      /\\?"type\\?" ?: ?\\?"rate_limited\\?"|\\?"message\\?" ?: ?\\?"Requests rate limit exceeded\\?"|Mistral’s API does not answer: it says 429/,
    sample: `API error occurred: Status 429
Body: {"object":"error","message":"Rate limit exceeded","type":"rate_limited","param":null,"code":"1300","raw_status_code":429}`,
    source: 'https://github.com/raycast/extensions/issues/31107, https://github.com/cline/cline/issues/9085',
    cause:
      'The limits are of the whole organisation at Mistral (https://docs.mistral.ai/deployment/ai-studio/tier), so whatever else it runs counts too; those of the free plan are low. Jobs wait and go on by themselves.',
    fix: 'Nothing, if it is rare. Otherwise lower `maxRunning` of the backend, or see at https://admin.mistral.ai/plateforme/limits which limits there are; they rise with what was billed.',
    commands: ['npm run deploy -- up'],
  },
  {
    id: 'mistral-capacity',
    area: 'mistral',
    title: 'Mistral: the model is overloaded',
    pattern: /service_tier_capacity_exceeded|Service tier capacity exceeded/,
    sample:
      '{"object":"error","message":"Service tier capacity exceeded for this model.","type":"service_tier_capacity_exceeded","code":"3505"}',
    source: QUOTED,
    cause: 'Mistral has no room for the model at the moment, whatever your own limits are.',
    fix: 'Wait: jobs are tried again by themselves. How many wait, the status of the queue says.',
    commands: ['npm run deploy -- status'],
  },
  {
    id: 'mistral-cannot-fetch',
    area: 'mistral',
    title: 'Mistral could not fetch the recording',
    pattern: /File could not be fetched from url|Mistral could not fetch a signed link/i,
    sample: `API error occurred: Status 400
Body: {"object":"error","message":"File could not be fetched from url","type":"invalid_request_file","param":null,"code":"3310"}`,
    source: `${QUOTED}, there for documents; that it is the same for \`file_url\` of audio is assumed`,
    cause:
      'The signed link did not work from outside: it had run out, its object was gone, the account that signed it may not read the bucket, or the bucket lets only some networks in (VPC Service Controls, IP filtering).',
    fix: 'See whether cpu-service may read the bucket; the doctor checks that. A bucket that is closed to the outside cannot be read by Mistral: then nothing is to be done, cpu-service uploads the recordings itself.',
    commands: [
      'npm run deploy -- doctor',
      'gcloud storage buckets get-iam-policy gs://{bucket} --project={project}',
    ],
  },
  // --- Once it runs ---
  {
    id: 'not-invoker',
    area: 'running',
    title: '403: the caller may not call the service',
    pattern:
      /Your client does not have permission to get URL|The request was not authenticated\. Either allow (?:unauthenticated invocations|public access)/,
    sample:
      'The request was not authenticated. Either allow unauthenticated invocations or set the proper Authorization header.',
    source: `${CLOUD_RUN_TROUBLESHOOTING}#unauthorized-client`,
    cause:
      'The call has no token, or one of an account that is not invoker of the service. From Cloud Tasks: the invoker account lost its role.',
    fix: 'Make the invoker account invoker of that service; call a private API with an identity token of your own.',
    commands: [
      'gcloud run services add-iam-policy-binding {service} --region={region} --project={project} --member=serviceAccount:{invoker} --role=roles/run.invoker',
      'gcloud auth print-identity-token --audiences={url} --impersonate-service-account={invoker}',
    ],
  },
  {
    id: 'wrong-audience',
    area: 'running',
    title: '401: the token is for another audience',
    pattern: /The access token could not be verified|The request was not authorized to invoke this service/,
    sample: 'HTTP 401: The request was not authorized to invoke this service',
    source: `${CLOUD_RUN_TROUBLESHOOTING}#401`,
    cause:
      'The token is malformed, expired, or made for another address. It must be an identity token whose audience is the address of the service, without a path; tasks carry the address in `BACKENDS` and `CPU_SERVICE_URL`.',
    fix: 'Compare those with the addresses that the services really have.',
    commands: [
      'gcloud run services describe {service} --region={region} --project={project} --format="value(status.url)"',
      'npm run deploy -- up',
    ],
  },
  {
    id: 'task-refused',
    area: 'running',
    title: 'A private service refuses its tasks',
    pattern:
      /"reason":"(?<reason>it has no token|its token [\w ]+|the account of its token is not verified|it comes from a web page)"[^}]*"a call was refused"/,
    sample:
      '{"severity":"WARNING","time":"2026-11-26T11:30:09.790Z","service":"cpu-service","reason":"its token is for another audience","status":401,"message":"a call was refused"}',
    source: 'recorded with cpu-service',
    cause:
      'The service says of the call: {reason}. `TASK_AUDIENCE` must be the address in the token, `TASK_INVOKER_EMAIL` its account, alike in the API, cpu-service and gpu-service.',
    fix: 'Deploy all services from one environment file, which gives all of them the same.',
    commands: ['npm run deploy -- up'],
  },
  {
    id: 'no-instance',
    area: 'running',
    title: '429: no instance is free',
    pattern: /The request was aborted because there was no available instance/,
    sample: 'The request was aborted because there was no available instance.',
    source: `${CLOUD_RUN_TROUBLESHOOTING}#429`,
    cause:
      'More calls came than instances may exist, or an instance took longer to start than a call waits. Cloud Tasks then slows down the whole queue.',
    fix: 'Set the concurrent dispatches of the queue to instances × tasks at a time: 1 per gpu-service, 4 per cpu-service. What waits then waits in the queue.',
    commands: [
      'gcloud tasks queues update {queue} --location={region} --project={project} --max-concurrent-dispatches=1 --min-backoff=10s',
    ],
  },
  {
    id: 'instance-could-not-start',
    area: 'running',
    title: '500: an instance could not start',
    pattern: /The request failed because the instance could not start successfully/,
    sample: 'HTTP 500 The request failed because the instance could not start successfully.',
    source: CLOUD_RUN_TROUBLESHOOTING,
    cause:
      'The container ended before it was ready: a secret it may no longer read, a missing model, too little memory.',
    fix: 'Read its log.',
    commands: ['gcloud run services logs read {service} --region={region} --project={project} --limit=50'],
  },
  {
    id: 'request-too-large',
    area: 'running',
    title: '413: the upload is too large for one request',
    pattern: /Your client issued a request that was too large|413 Request Entity Too Large/i,
    sample:
      '<h1>Error: Request Entity Too Large</h1> <h2>Your client issued a request that was too large.</h2>',
    source: `https://docs.cloud.google.com/run/quotas (32 MiB with HTTP/1); this text ${QUOTED}`,
    cause: 'It is Google that answers: Cloud Run takes 32 MiB in one HTTP/1 request.',
    fix: 'Upload in pieces or straight to the bucket, which our command line does by itself.',
    commands: ['npm run transcribe -- FILE --server {url}'],
  },
  {
    id: 'request-timeout',
    area: 'running',
    title: '504: the request took longer than the service allows',
    pattern: /terminated because it has reached the maximum request timeout/,
    sample:
      'The request has been terminated because it has reached the maximum request timeout. To change this limit, see https://cloud.google.com/run/docs/configuring/request-timeout',
    source: `${CLOUD_RUN_TROUBLESHOOTING}#504`,
    cause: 'The timeout of the service is shorter than a task may take, 1800 s; unless set it is 300 s.',
    fix: 'Set it to 3600 s for gpu-service, 1800 s for cpu-service.',
    commands: ['gcloud run services update {service} --region={region} --project={project} --timeout=3600'],
  },
  {
    id: 'memory-exceeded',
    area: 'running',
    title: 'An instance ran out of memory',
    pattern:
      /Memory limit of (?<limit_mib>\d+) ?Mi?B? exceeded with (?<used_mib>\d+) ?Mi?B? used|was found to be using too much memory and was terminated/,
    sample:
      'Memory limit of 512 MiB exceeded with 516 MiB used. Consider increasing the memory limit, see https://cloud.google.com/run/docs/configuring/memory-limits',
    source: 'https://github.com/dart-lang/pub-dev/issues/9554',
    cause:
      'The container used more than its memory and was killed. Files count too: the disk of Cloud Run is memory.',
    fix: 'cpu-service: mount the bucket (`STORE_MOUNT`), so that it downloads nothing, or give it more memory. gpu-service: 8 vCPU and 32 GiB.',
    commands: [
      'npm run deploy -- up',
      'gcloud run services update {service} --region={region} --project={project} --memory=4Gi',
    ],
  },
  {
    id: 'malformed-response',
    area: 'running',
    title: '503: the instance broke off its answer',
    pattern: /either the HTTP response was malformed or connection to the instance had an error/,
    sample:
      'The request failed because either the HTTP response was malformed or connection to the instance had an error.',
    source: CLOUD_RUN_TROUBLESHOOTING,
    cause:
      'The process died in the middle of a request, nearly always for lack of memory. The job goes on from its last checkpoint.',
    fix: 'Look for what its log says just before; once in a while it is harmless.',
    commands: ['gcloud run services logs read {service} --region={region} --project={project} --limit=50'],
  },
  {
    id: 'cuda-driver-too-old',
    area: 'running',
    title: 'The driver is older than the CUDA of the image',
    pattern: /CUDA driver version is insufficient for CUDA runtime version/,
    sample: 'CUDA failed with error CUDA driver version is insufficient for CUDA runtime version',
    source: `https://github.com/modular/modular/issues/4923 on Cloud Run's driver; this text ${QUOTED}`,
    cause:
      'The platform brings the driver, and it has been 535 (CUDA 12.2) on Cloud Run for long, later 580. The image is made for CUDA 12; one built for 13 does not run on an older driver. Never put a driver or libcuda into the image.',
    fix: 'Build with the wheels in setup/requirements/cuda.txt. On a server of your own install a newer driver.',
    commands: ['npm run deploy -- up'],
  },
  {
    id: 'transcriber-cannot-start',
    area: 'running',
    title: 'The transcriber cannot start',
    pattern: /The (?:transcriber|annotator) cannot start: (?<reason>[\w ,();]+)\./,
    sample:
      'The transcriber cannot start: one of its models is missing or cannot be read. It says: /srv/models/small has no model.bin',
    source: 'recorded with gpu-service',
    cause: 'gpu-service says of its models: {reason}.',
    fix: 'Build an image with the model that `WHISPER_MODEL` names, or name one that it has: `capabilities/BACKEND` in the bucket lists them.',
    commands: [
      'gcloud run services logs read {service} --region={region} --project={project} --limit=50',
      'npm run deploy -- up',
    ],
  },
  {
    id: 'no-room-for-tasks',
    area: 'running',
    title: 'The queue sends more than the instances can take',
    pattern: /sent a task back: there is no room for it now/,
    sample:
      '{"severity":"INFO","service":"gpu-service","task":"projects/p/locations/europe-west1/queues/zeroscribe-gpu/tasks/1","type":"transcribe","message":"sent a task back: there is no room for it now"}',
    source: 'the log of gpu-service',
    cause:
      'Now and then is normal after a deadline. Often means that the queue dispatches more tasks at once than there are instances.',
    fix: 'Set the concurrent dispatches of the queue to the number of instances.',
    commands: [
      'gcloud tasks queues update {queue} --location={region} --project={project} --max-concurrent-dispatches=1',
    ],
  },
  {
    id: 'open-service',
    area: 'running',
    title: 'A service refuses to start open to everybody',
    pattern:
      /would let anybody use this service: set API_KEYS|TASK_AUTH=none is for loopback only|TASK_AUTH=iam trusts Cloud Run to check tokens/,
    sample: 'Listening on 0.0.0.0 would let anybody use this service: set API_KEYS, or HOST=127.0.0.1.',
    source: 'recorded with the API',
    cause: 'Outside loopback the API wants keys, and a private service wants to know who may bring tasks.',
    fix: 'Give `API_KEYS` a value (the secret), set `TASK_AUTH=iam` on Cloud Run, `verify` on a server.',
    commands: [
      'gcloud secrets versions add {secret} --data-file=- --project={project}',
      'npm run deploy -- up',
    ],
  },
  {
    id: 'environment-not-valid',
    area: 'running',
    title: 'A service refuses its environment',
    pattern: /The environment is not valid: (?<wrong>[A-Z][A-Z0-9_]+: [^"\n]{1,200})/,
    sample: `The environment is not valid:
  BACKENDS: 0.kind: is not valid`,
    source: 'recorded with cpu-service',
    cause: 'A variable has a value that the service cannot use: {wrong}',
    fix: 'docs/configuration.md says what each may be; deploy again from the environment file.',
    commands: ['npm run deploy -- up'],
  },
];

/** The role of an administrator of the service that a permission belongs to. */
function adminRole(permission: string): string {
  const roles: Readonly<Record<string, string>> = {
    aiplatform: 'roles/aiplatform.admin',
    artifactregistry: 'roles/artifactregistry.admin',
    cloudbuild: 'roles/cloudbuild.builds.editor',
    cloudtasks: 'roles/cloudtasks.admin',
    iam: 'roles/iam.serviceAccountAdmin',
    resourcemanager: 'roles/resourcemanager.projectIamAdmin',
    run: 'roles/run.admin',
    secretmanager: 'roles/secretmanager.admin',
    serviceusage: 'roles/serviceusage.serviceUsageAdmin',
    storage: 'roles/storage.admin',
  };
  return roles[permission.split('.')[0] ?? ''] ?? 'roles/editor';
}
