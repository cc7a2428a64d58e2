import { type Command, commandLine } from '../gcloud.ts';
import type { Layout } from '../layout.ts';
import type { FixCommand } from './finding.ts';

/** A command that `--fix` may run. */
export function fixing({ project }: Layout, ...args: string[]): FixCommand {
  const command: Command = { args };
  return { line: commandLine({ args: [...args, `--project=${project.id}`] }), run: command };
}

/** One that is for people: it costs money, destroys something, or concerns more than this environment. */
export function shown({ project }: Layout, ...args: string[]): FixCommand {
  return { line: commandLine({ args: [...args, `--project=${project.id}`] }) };
}

export function deployAgain({ environment }: Layout): FixCommand {
  return { line: `npm run deploy -- up --environment ${environment.name}` };
}

export function updateService(layout: Layout, service: string, ...flags: string[]): FixCommand {
  return fixing(layout, 'run', 'services', 'update', service, `--region=${layout.region}`, ...flags);
}
