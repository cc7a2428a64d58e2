import type { Machine } from './machine.ts';
import { Refusal } from './refusal.ts';
import { OLDEST_SYSTEMD } from './unit.ts';

/** The CUDA libraries are of version 12, which any driver since this one runs (NVIDIA: CUDA minor version compatibility). */
const OLDEST_DRIVER = 525;

/** What systemd it has. @throws {Refusal} */
export function checkSystem(machine: Machine, folder: string): { systemdVersion: number } {
  const system = machine.read('/etc/os-release') ?? '';
  if (!/^ID(_LIKE)?=.*\b(debian|ubuntu)\b/m.test(system)) {
    throw new Refusal('This installer is for Debian and Ubuntu. Elsewhere, follow its README by hand.');
  }
  if (/^\/(home|root|run\/user)\//.test(`${folder}/`)) {
    throw new Refusal(
      `The service cannot see home folders, and Zeroscribe lies in ${folder}. Move it to /opt/zeroscribe and install from there.`,
    );
  }
  const systemdVersion = Number(/^systemd (\d+)/.exec(machine.ask('systemctl', '--version') ?? '')?.[1]);
  if (!(systemdVersion >= OLDEST_SYSTEMD)) {
    throw new Refusal(
      `systemd ${OLDEST_SYSTEMD} or newer is needed (Debian 12, Ubuntu 24.04), and ${Number.isNaN(systemdVersion) ? 'none answers' : `this is ${systemdVersion}`}.`,
    );
  }
  return { systemdVersion };
}

/** A sentence about the GPU. @throws {Refusal} */
export function checkGpu(machine: Machine): string {
  const answer = machine.ask(
    'nvidia-smi',
    '--query-gpu=name,driver_version,memory.total',
    '--format=csv,noheader',
  );
  if (answer === undefined) {
    throw new Refusal(
      'nvidia-smi does not answer: install the NVIDIA driver (Debian: apt install nvidia-driver; Ubuntu: ubuntu-drivers install --gpgpu) and restart the machine. Without a GPU, say --device cpu.',
    );
  }
  const [gpu = ''] = answer.split('\n');
  const driver = Number.parseInt(gpu.split(', ')[1] ?? '', 10);
  if (!(driver >= OLDEST_DRIVER)) {
    throw new Refusal(
      `The NVIDIA driver is too old for CUDA 12: ${gpu}. Install version ${OLDEST_DRIVER} or newer.`,
    );
  }
  return gpu;
}
