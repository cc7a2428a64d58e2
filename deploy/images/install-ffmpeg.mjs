// `node install-ffmpeg.mjs` in the build of the API's image: the ffmpeg that set-up installs, and nothing else of it.
import { chmodSync, copyFileSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { explain, SetupFailure } from '../../setup/failure.mjs';
import { requirementsOf, venvOf } from '../../setup/installation.mjs';
import { runTool } from '../../setup/run-tool.mjs';
import { buildStep, ROOT } from './build-step.mjs';
import { onlyPackage } from './requirements.mjs';

const FOLDER = '/tmp/ffmpeg';

await buildStep(async (workshop) => {
  const requirements = `${FOLDER}.txt`;
  writeFileSync(
    requirements,
    onlyPackage(readFileSync(requirementsOf(ROOT, 'cpu'), 'utf8'), 'imageio-ffmpeg'),
  );
  const pip = [
    '-m',
    'pip',
    'install',
    '--no-deps',
    '--require-hashes',
    '--only-binary=:all:',
    '--target',
    FOLDER,
  ];
  const step = workshop.progress.start('ffmpeg');
  const { isDone, output } = await runTool(workshop, 'python3', [...pip, '-r', requirements]);
  if (!isDone) throw new SetupFailure(explain('installing ffmpeg', output, ROOT));
  const binaries = join(FOLDER, 'imageio_ffmpeg', 'binaries');
  const name = readdirSync(binaries).find((file) => file.startsWith('ffmpeg-'));
  if (name === undefined)
    throw new SetupFailure('The package imageio-ffmpeg has no ffmpeg for this machine.');
  const ffmpeg = join(venvOf(ROOT), 'bin', 'ffmpeg');
  mkdirSync(join(venvOf(ROOT), 'bin'), { recursive: true });
  copyFileSync(join(binaries, name), ffmpeg);
  chmodSync(ffmpeg, 0o755);
  writeFileSync(join(venvOf(ROOT), 'zeroscribe.json'), `${JSON.stringify({ ffmpeg }, null, 2)}\n`);
  step.done();
});
