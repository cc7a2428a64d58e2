import { execFile, spawnSync } from 'node:child_process';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { expect, test } from '@jest/globals';
import { REPOSITORY_ROOT, readInstallation } from '../../core/installation.ts';
import { sampleRecording } from '../../core/sample-recording.ts';

/** A network of its own, in which there is nothing, not even the way to itself. */
const ALONE = ['--map-root-user', '--net'];
const LOOPBACK_UP = `
import fcntl, socket, struct, subprocess, sys
IFF_UP, SIOCSIFFLAGS = 1, 0x8914
fcntl.ioctl(socket.socket(), SIOCSIFFLAGS, struct.pack("16sh", b"lo", IFF_UP))
try:
    socket.create_connection(("192.0.2.1", 443), timeout=5)
except OSError as error:
    assert error.errno == 101, f"there is a network: {error}"
else:
    sys.exit("there is a network")
sys.exit(subprocess.run(sys.argv[1:]).returncode)
`;

const canBeAlone = spawnSync('unshare', [...ALONE, 'true']).status === 0;
if (!canBeAlone)
  console.log('SKIPPED: without a network: this system lets nobody have one of his own (unshare).');

(canBeAlone ? test : test.skip)(
  'without any network a recording is transcribed: nothing is downloaded',
  async () => {
    const installation = readInstallation();
    const folder = await mkdtemp(join(tmpdir(), 'zeroscribe-offline-'));
    try {
      const command = [process.execPath, join(REPOSITORY_ROOT, 'cli', 'main.ts'), 'transcribe'];
      await promisify(execFile)(
        'unshare',
        [
          ...ALONE,
          installation.python,
          '-c',
          LOOPBACK_UP,
          ...command,
          sampleRecording(installation.python),
          ...[
            '--language',
            'en',
            '--model',
            installation.packaged_model.name,
            '--format',
            'txt',
            '--out',
            folder,
          ],
        ],
        { env: { ...process.env, NODE_OPTIONS: '', ZEROSCRIBE_API_KEY: '' } },
      );
      expect(await readFile(join(folder, 'sample.txt'), 'utf8')).toMatch(/Diane|Texas/);
    } finally {
      await rm(folder, { recursive: true });
    }
  },
  180_000,
);
