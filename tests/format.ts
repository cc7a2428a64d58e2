import { nodeTool, pythonTool, run, type Tool } from './tools.ts';

// `npm run format`: writes what `npm test` checks.

const FORMATTERS: Tool[] = [
  { name: 'biome', command: nodeTool('@biomejs/biome/bin/biome', 'check', '--write') },
  { name: 'ruff check', command: pythonTool('ruff', 'check', '--fix') },
  { name: 'ruff format', command: pythonTool('ruff', 'format') },
  {
    name: 'docs/troubleshooting.md',
    command: [process.execPath, '--disable-warning=ExperimentalWarning', 'deploy/write-troubleshooting.ts'],
  },
];

// One after the other: what ruff fixes it then formats.
for (const formatter of FORMATTERS) {
  const { exitCode } = await run(formatter, { timeoutMs: 60_000, live: true });
  if (exitCode !== 0) process.exitCode = 1;
}
