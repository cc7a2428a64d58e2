import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { readFile, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

/** What pip and npm are set to on this machine, for a build: secrets that no layer keeps, and folders that they name. */
export interface BuilderSettings {
  /** Build secret → file. */
  secrets: Record<string, string>;
  folders: string[];
}

const CERTIFICATES = ['NODE_EXTRA_CA_CERTS', 'SSL_CERT_FILE', 'PIP_CERT', 'REQUESTS_CA_BUNDLE'];
/** They are given by a secret of their own, or say nothing about where packages are. */
const LEFT_OUT = new Set(['cert', 'constraint', 'disable-pip-version-check']);

export async function readBuilderSettings(python: string, folder: string): Promise<BuilderSettings> {
  const { stdout } = await promisify(execFile)(python, ['-m', 'pip', 'config', 'list']);
  const pip = pipSettings(stdout);
  await writeFile(
    join(folder, 'pip.conf'),
    `[global]\n${pip.map(([name, value]) => `${name} = ${value}\n`).join('')}`,
  );
  await writeFile(join(folder, 'npmrc'), await npmSettings());
  const certificates = CERTIFICATES.map((name) => process.env[name]).find(
    (path) => path !== undefined && existsSync(path),
  );
  return {
    secrets: {
      pip_conf: join(folder, 'pip.conf'),
      npmrc: join(folder, 'npmrc'),
      ...(certificates !== undefined && { ca_certificates: certificates }),
    },
    folders: [...new Set(pip.flatMap(([, value]) => value.split(/\s+/).flatMap(localFolder)))],
  };
}

/** Variables come first in pip's list, and have precedence. */
function pipSettings(list: string): [string, string][] {
  const settings = new Map<string, string>();
  for (const [, name = '', value = ''] of list.matchAll(/^[\w:]+\.([\w-]+)='(.*)'$/gm)) {
    if (!LEFT_OUT.has(name) && !settings.has(name)) settings.set(name, value);
  }
  return [...settings];
}

/** Of the machine and of the user; the project's own are in the repository. */
async function npmSettings(): Promise<string> {
  const texts = await Promise.all(
    ['globalconfig', 'userconfig'].map(async (name) => {
      const { stdout } = await promisify(execFile)('npm', ['config', 'get', name], { cwd: '/' });
      return await readFile(stdout.trim(), 'utf8').catch(() => '');
    }),
  );
  return texts
    .join('\n')
    .split('\n')
    .filter((line) => !/^\s*cafile\s*=/.test(line))
    .join('\n');
}

/** The files of an index lie beside it. */
function localFolder(value: string): string[] {
  const path = value.startsWith('file://') ? dirname(fileURLToPath(value)) : value;
  return path.startsWith('/') && existsSync(path) ? [path] : [];
}
