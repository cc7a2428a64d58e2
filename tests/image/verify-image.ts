import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { appendFile, cp, mkdir, mkdtemp, rm } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { parseArgs, promisify } from 'node:util';
import { REPOSITORY_ROOT, readInstallation } from '../../core/installation.ts';
import { sampleRecording } from '../../core/sample-recording.ts';
import { findOnPath } from '../../setup/find-python.mjs';
import { type Cloud, OWNER, type ServiceName, startCloud } from '../support/cloud.ts';
import { listening } from '../support/service.ts';
import { submit, waitUntilSettled } from '../support/submit.ts';
import { waitFor } from '../support/wait-for.ts';
import { Buildah, type ImageConfig, type Layer } from './buildah.ts';
import { readBuilderSettings } from './builder-settings.ts';
import { spawnInImage } from './image-process.ts';

// `npm run verify-image`: builds both images as they are, without a Docker engine and without a hub (CPU packages, the
// packaged model), starts the services from their file systems, and has them transcribe the sample recording: brought by
// the queue, and started for one task. Then it changes a file of the source and builds again. Takes about twenty minutes
// and 15 GB of disk; leaves nothing. What it cannot show is in docs/images.md.

const HELP = `npm run verify-image [-- --device cuda] [--folder FOLDER]
  --device cuda   with the packages for CUDA: 25 GB of disk, and the services still run on the CPU
  --folder        keep what is built there: the next time begins where nothing has changed since`;
const BASE = 'localhost/verify-base:latest';
const IMAGES = ['api', 'gpu'] as const;
type ImageName = (typeof IMAGES)[number];
const imageOf = (name: ImageName) => `localhost/verify-${name}:latest`;
/** What may be sent again after a change of the code. */
const SMALL_BYTES = 10_000_000;

const { values } = parseArgs({
  options: {
    device: { type: 'string', default: 'cpu' },
    folder: { type: 'string' },
    help: { type: 'boolean' },
  },
});
if (values.help) {
  console.log(HELP);
  process.exit(0);
}
const problem = whatIsMissing();
if (problem !== undefined) {
  console.error(problem);
  process.exit(1);
}

const startedMs = performance.now();
const folder = values.folder ?? (await mkdtemp(join(process.env.TMPDIR ?? '/var/tmp', 'verify-image-')));
await mkdir(folder, { recursive: true });
const buildah = new Buildah(folder);
const interrupted = new AbortController();
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const)
  process.once(signal, () => interrupted.abort());
const violations: string[] = [];
try {
  await Promise.race([
    verify(),
    once(interrupted.signal, 'abort').then(() => {
      throw new Error('Interrupted.');
    }),
  ]);
} catch (error) {
  violations.push(error instanceof Error ? (error.stack ?? error.message) : String(error));
} finally {
  const isKept = values.folder !== undefined;
  try {
    await buildah.close({ isKept });
    if (!isKept) await rm(folder, { recursive: true, force: true });
  } catch (error) {
    violations.push(`Something is left in ${folder}: ${error}`);
  }
}
for (const violation of violations) console.error(violation);
say(violations.length === 0 ? 'Both images do what they should.' : `${violations.length} things are wrong.`);
process.exit(violations.length === 0 ? 0 : 1);

async function verify(): Promise<void> {
  if (!(await buildah.has(BASE))) {
    say('making a Debian to build on (debootstrap)');
    const root = join(folder, 'base');
    // From the mirror that it takes by itself.
    await run('debootstrap', ['--variant=minbase', 'bookworm', root]);
    await buildah.import(root, BASE);
    await rm(root, { recursive: true });
  }

  const context = join(folder, 'context');
  await rm(context, { recursive: true, force: true });
  await copySources(context);
  for (const name of IMAGES) await build(name, context);
  const before = { api: await buildah.layers(imageOf('api')), gpu: await buildah.layers(imageOf('gpu')) };

  const mounts = { api: await openImage('api'), gpu: await openImage('gpu') };
  for (const name of IMAGES) await inspectFiles(name, mounts[name].root);
  await runServices(mounts);

  say('changing a source file, and building again');
  await appendFile(join(context, 'core', 'objects.ts'), '\n// A change.\n');
  for (const name of IMAGES) await build(name, context);
  for (const name of IMAGES) {
    report(name, before[name], await buildah.layers(imageOf(name)));
  }
}

/** What a clone would have, and what is not committed yet. */
async function copySources(context: string): Promise<void> {
  const args = ['ls-files', '--cached', '--others', '--exclude-standard'];
  const { stdout } = await promisify(execFile)('git', args, { cwd: REPOSITORY_ROOT, maxBuffer: 2 ** 24 });
  for (const file of stdout.trim().split('\n')) {
    if (!existsSync(join(REPOSITORY_ROOT, file))) continue;
    await mkdir(dirname(join(context, file)), { recursive: true });
    await cp(join(REPOSITORY_ROOT, file), join(context, file));
  }
}

async function build(name: ImageName, context: string): Promise<void> {
  say(`building Dockerfile.${name} (${values.device})`);
  const { secrets, folders } = await readBuilderSettings(readInstallation().python, folder);
  const onlyPackaged = ['WHISPER_MODELS=', 'ALIGNMENT_LANGUAGES=', `DEVICE=${values.device}`];
  await buildah.run(
    [
      ...['bud', '--layers', '--isolation', 'chroot', '--pull-never', '--build-arg', `BASE_IMAGE=${BASE}`],
      ...(name === 'gpu' ? onlyPackaged.flatMap((argument) => ['--build-arg', argument]) : []),
      ...Object.entries(secrets).flatMap(([id, file]) => ['--secret', `id=${id},src=${file}`]),
      ...folders.flatMap((path) => ['--volume', `${path}:${path}:ro`]),
      ...['--file', join(context, `Dockerfile.${name}`), '--tag', imageOf(name), context],
    ],
    { isLoud: true },
  );
}

interface OpenImage {
  root: string;
  config: ImageConfig;
}

async function openImage(name: ImageName): Promise<OpenImage> {
  return { root: await buildah.mount(imageOf(name)), config: await buildah.config(imageOf(name)) };
}

async function inspectFiles(name: ImageName, root: string): Promise<void> {
  const find = async (...args: string[]) =>
    (await promisify(execFile)('find', [join(root, 'app'), ...args], { maxBuffer: 2 ** 26 })).stdout.trim();
  const writable = await find('(', '-uid', '10001', '-o', '-perm', '-o+w', ')', '-not', '-type', 'l');
  if (writable !== '')
    violations.push(`${name}: the service could change its own files: ${writable.slice(0, 500)}`);
  const strange = await find(
    '-name',
    '*.ts',
    '-not',
    '-path',
    '*/node_modules/*',
    '-o',
    '-name',
    '.env*',
    '-o',
    '-name',
    '.npmrc',
  );
  if (strange !== '') violations.push(`${name}: these should not be in it: ${strange.slice(0, 500)}`);
  for (const path of ['run/secrets', 'etc/pip.conf', 'root/.npmrc', 'root/.config/pip']) {
    if (existsSync(join(root, path))) violations.push(`${name}: the builder's settings are in it: /${path}`);
  }
}

async function runServices(images: Record<ImageName, OpenImage>): Promise<void> {
  const sample = sampleRecording(readInstallation().python);
  const imagesOf = { api: images.api, 'cpu-service': images.api, 'gpu-service': images.gpu };
  let gpuEnv: Record<string, string> = {};
  const launch = async (name: ServiceName, env: Record<string, string>) => {
    say(`starting ${name} from its image`);
    if (name === 'gpu-service') gpuEnv = env;
    const { root, config } = imagesOf[name];
    // The tokens of the fake queue are for services on this machine alone.
    const { child, kill } = spawnInImage(root, withCommand(config, `${name}/main.js`), {
      PORT: '0',
      ...env,
      HOST: '127.0.0.1',
      WHISPER_DEVICE: 'cpu',
    });
    return await listening(child, kill);
  };
  const cloud = await startCloud({ launch });
  try {
    for (const name of ['api', 'cpu-service', 'gpu-service'] as const) {
      const url = cloud.instances(name)[0]?.url;
      const { status } = await fetch(`${url}/health/live`);
      if (status !== 200) violations.push(`${name}: /health/live answered ${status}`);
    }
    say('transcribing the sample, brought by the queue');
    const pushed = await transcribed(cloud, (await submit(cloud.client, sample, { language: 'en' })).id);
    console.log(pushed);

    const [gpu] = cloud.instances('gpu-service');
    if (gpu === undefined) throw new Error('There is no gpu-service.');
    cloud.forget('gpu-service', gpu);
    const code = await gpu.stop();
    if (code !== 0) violations.push(`gpu-service ended with ${code} after SIGTERM.`);

    say('transcribing it again, by a gpu-service that is started for this one task');
    const { id } = await submit(cloud.client, sample, { language: 'en' });
    const job = { owner: OWNER, id };
    await waitFor('its task', async () => (await cloud.record(job)).task?.queue === 'cloud-run-service');
    const { TASK_AUTH: _, ...env } = gpuEnv;
    const task = { type: 'transcribe', job, part: 1 };
    const { child } = spawnInImage(images.gpu.root, images.gpu.config, {
      ...env,
      WHISPER_DEVICE: 'cpu',
      RUN_TASK: JSON.stringify(task),
    });
    child.stdout.resume();
    child.stderr.pipe(process.stderr);
    const [runCode] = await once(child, 'exit');
    if (runCode !== 0) violations.push(`gpu-service with RUN_TASK ended with ${runCode}.`);
    if ((await transcribed(cloud, id)) !== pushed)
      violations.push('The second transcript differs from the first.');
  } finally {
    await cloud.stop();
  }
}

function withCommand(config: ImageConfig, main: string): ImageConfig {
  return { ...config, command: [...config.command.slice(0, -1), main] };
}

async function transcribed(cloud: Cloud, id: string): Promise<string> {
  const { status, problem: why } = await waitUntilSettled(cloud.client, id, 180_000);
  if (status !== 'completed') throw new Error(`The transcription is ${status}: ${JSON.stringify(why)}`);
  const text = await cloud.client.transcript(id, 'txt');
  if (!text.includes('This is Diane in New Jersey.')) violations.push(`The transcript is wrong: ${text}`);
  return text;
}

function report(name: ImageName, before: Layer[], after: Layer[]): void {
  const table = after.map(({ bytes, made, digest }, i) => ({
    'MB on disk': Number((bytes / 1e6).toFixed(1)),
    'after the change': digest === before[i]?.digest ? 'the same' : 'new',
    layer: describe(made),
  }));
  console.log(`\n${imageOf(name)}, ${megabytes(after)} MB`);
  console.table(table);
  const changed = after.filter(({ digest }, i) => digest !== before[i]?.digest);
  say(`${name}: a change of the code sends ${megabytes(changed)} of ${megabytes(after)} MB again`);
  if (changed.length === 0) violations.push(`${name}: the change of the code is not in it.`);
  if (changed.reduce((sum, { bytes }) => sum + bytes, 0) > SMALL_BYTES) {
    violations.push(`${name}: a change of the code makes more than ${SMALL_BYTES / 1e6} MB of new layers.`);
  }
}

function megabytes(layers: Layer[]): string {
  return (layers.reduce((sum, { bytes }) => sum + bytes, 0) / 1e6).toFixed(1);
}

/** The instruction, without the sums that buildah adds. */
function describe(made: string): string {
  const instruction = made
    .replace(/^\/bin\/sh(?: -c)?\s*(?:#\(nop\)\s*)?/, '')
    .replace(/(dir|file):\S+ in/, '→');
  return instruction === '' ? 'the base' : instruction.replace(/\s+/g, ' ').slice(0, 60).trim();
}

function whatIsMissing(): string | undefined {
  if (process.getuid?.() !== 0)
    return 'npm run verify-image makes file systems and mounts them: run it as root.';
  const missing = ['buildah', 'debootstrap', 'unshare', 'git'].filter(
    (name) => findOnPath(name, process.env.PATH) === undefined,
  );
  if (missing.length > 0) {
    return `${missing.join(' and ')} is missing. On Debian: apt-get install buildah debootstrap util-linux git`;
  }
  if (values.device !== 'cpu' && values.device !== 'cuda') return HELP;
  return undefined;
}

async function run(command: string, args: string[]): Promise<void> {
  const child = spawn(command, args, { stdio: ['ignore', 'ignore', 'inherit'] });
  const [code] = await once(child, 'exit');
  if (code !== 0) throw new Error(`${command} ended with ${code}.`);
}

function say(what: string): void {
  console.log(`[${((performance.now() - startedMs) / 1000).toFixed(0).padStart(4)} s] ${what}`);
}
