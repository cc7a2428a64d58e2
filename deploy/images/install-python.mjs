// `node install-python.mjs DEVICE` in the build of an image: /app/.venv with WhisperX, as set-up makes it, for good.
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { SetupFailure } from '../../setup/failure.mjs';
import { lockHash, pythonOf, requirementsOf, venvOf, writeInstallation } from '../../setup/installation.mjs';
import { installPythonPackages } from '../../setup/python-packages.mjs';
import { runTool } from '../../setup/run-tool.mjs';
import { buildStep, ROOT } from './build-step.mjs';
import { withoutPackages } from './requirements.mjs';

const [device] = process.argv.slice(2);

await buildStep(async (workshop) => {
  if (device !== 'cpu' && device !== 'cuda')
    throw new SetupFailure(`The build argument DEVICE is ${device || 'empty'}. Set it to cpu or cuda.`);
  const requirements = requirementsOf(ROOT, device);
  const tools = readFileSync(join(ROOT, 'setup', 'requirements', 'dev.in'), 'utf8');
  writeFileSync(requirements, withoutPackages(readFileSync(requirements, 'utf8'), tools));
  const facts = await installPythonPackages(workshop, device);
  writeInstallation(ROOT, {
    python: pythonOf(ROOT),
    ffmpeg: facts.ffmpeg,
    device,
    packaged_model: facts.model,
    models: {},
    models_refused: {},
    lock: lockHash(ROOT, device),
    base_python: { path: facts.base, version: facts.version, requested: null },
    driver: null,
  });
  // Nobody may write there later: whatever is not compiled now would be at every start. The files never change, so Python
  // need not compare their times, which layers do not always keep. A few are made for other Pythons, and fail.
  const step = workshop.progress.start('compiling the Python packages');
  const compile = ['-m', 'compileall', '-qq', '-f', '-j', '0', '--invalidation-mode', 'unchecked-hash'];
  await runTool(workshop, pythonOf(ROOT), [...compile, '-x', '/tests/', join(venvOf(ROOT), 'lib')]);
  step.done();
  rmSync(workshop.logFile, { force: true });
});
