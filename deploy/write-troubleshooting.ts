import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { REPOSITORY_ROOT } from '../core/installation.ts';
import { troubleshootingPage } from './troubleshooting-page.ts';

// Part of `npm run format`.

await writeFile(join(REPOSITORY_ROOT, 'docs', 'troubleshooting.md'), troubleshootingPage());
