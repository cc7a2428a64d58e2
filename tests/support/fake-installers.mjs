// Stands in for npm, Python and nvidia-smi where set-up is tested: installs next to nothing, at once. FAKE, JSON in the environment,
// says how each of them misbehaves.
import {
  appendFileSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { basename, dirname, join } from 'node:path';

const how = JSON.parse(process.env.FAKE ?? '{}');
const [, self, ...args] = process.argv;
const called = basename(self);
const root = process.cwd();

const NO_NETWORK = {
  npm: 'npm error code ENOTFOUND\nnpm error network request to the registry failed, reason: getaddrinfo ENOTFOUND registry',
  pip: "WARNING: Retrying (Retry(total=0)) after connection broken by 'NewConnectionError(Failed to establish a new connection: [Errno -3] Temporary failure in name resolution)'\nERROR: Could not find a version that satisfies the requirement torch (from versions: none)\nERROR: No matching distribution found for torch==2.13.0+cpu",
};

function fail(text) {
  console.error(text);
  process.exit(1);
}

/** Until it is killed, or the test says so. */
async function hang() {
  writeFileSync(join(root, 'hanging'), String(process.pid));
  while (!existsSync(join(root, 'go-on'))) await new Promise((resolve) => setTimeout(resolve, 20));
}

function npm() {
  if (how.npm === 'network') fail(NO_NETWORK.npm);
  if (how.npm === 'full') fail('npm error code ENOSPC\nnpm error ENOSPC: no space left on device, write');
  if (how.npm === 'noisy') console.error('npm warn EBADENGINE Unsupported engine');
  const modules = join(root, 'node_modules');
  rmSync(modules, { recursive: true, force: true });
  const node = join(modules, `node-${process.platform}-${process.arch}`, 'bin');
  mkdirSync(node, { recursive: true });
  symlinkSync(process.execPath, join(node, 'node'));
  copyFileSync(join(root, 'package-lock.json'), join(modules, '.package-lock.json'));
}

async function python() {
  const version = how.version ?? [3, 11, 7];
  const text = args.join(' ');
  if (text.includes('ensurepip')) {
    console.log(JSON.stringify({ version, path: self, canMakeVenv: how.venv !== 'absent' }));
  } else if (text.startsWith('-m venv')) {
    const venv = args.at(-1);
    rmSync(venv, { recursive: true, force: true });
    mkdirSync(join(venv, 'bin'), { recursive: true });
    mkdirSync(join(venv, 'lib', 'python3.11', 'site-packages'), { recursive: true });
    if (how.venv === 'full') fail("Error: [Errno 28] No space left on device: '.venv/bin/python'");
    copyFileSync(self, join(venv, 'bin', 'python'));
  } else if (text.includes('pip._internal')) {
    console.log(JSON.stringify(version));
  } else if (text.startsWith('-m pip')) {
    await pip(text);
  } else if (text.includes('fetch_model.py')) {
    if (how.hub !== 'reachable') fail('the hub cannot be reached');
    mkdirSync(args.at(-1), { recursive: true });
    writeFileSync(join(args.at(-1), 'model.bin'), '');
  } else if (text.includes('keep_eight_bit')) {
    if (how.keep === 'fails') fail('Traceback\nValueError: the model is of a new kind');
  } else {
    if (how.check === 'broken' && !existsSync(join(root, 'repaired'))) {
      writeFileSync(join(root, 'repaired'), '');
      fail('ImportError: libctranslate2.so: file too short');
    }
    const torchCuda = how.torch === 'cuda' ? '12.8' : null;
    console.log(
      JSON.stringify({
        ffmpeg: self,
        model: { name: 'tiny.en', path: dirname(self) },
        torchCuda,
        base: self,
        version: '3.11.7',
      }),
    );
  }
}

async function pip(text) {
  const isTorch = text.includes('torch==');
  if (how.pip === 'network') fail(NO_NETWORK.pip);
  if (how.pip === 'full' && !isTorch)
    fail('ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device');
  if (how.torch === 'nowhere' && isTorch) {
    if (text.includes('--index-url')) console.error(NO_NETWORK.pip);
    fail('ERROR: No matching distribution found for torch==2.13.0+cpu');
  }
  if (how.torch === 'elsewhere' && isTorch && !text.includes('--index-url')) {
    fail('ERROR: No matching distribution found for torch==2.13.0+cpu');
  }
  if (how.pip === 'hang' && !isTorch) await hang();
}

appendFileSync(join(root, 'calls.log'), `${called} ${args.join(' ').split('\n')[0]}\n`);
if (called === 'npm') npm();
else if (called === 'nvidia-smi') console.log('GPU 0: NVIDIA L4 (UUID: GPU-1)');
else await python();
