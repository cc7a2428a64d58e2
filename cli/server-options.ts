import { type Command, InvalidArgumentError, Option } from 'commander';
import { Client } from './client.ts';

export interface ServerOptions {
  server?: string;
  apiKey?: string;
}

export const DEFAULT_SERVER = 'http://127.0.0.1:8080';

export function addServerOptions(command: Command, description: string, defaultServer?: string): Command {
  const server = new Option('--server <url>', description).argParser(readServer);
  return command
    .addOption(defaultServer === undefined ? server : server.default(defaultServer))
    .addOption(new Option('--api-key <key>', 'key for that service').env('ZEROSCRIBE_API_KEY'));
}

export function connect({ server = DEFAULT_SERVER, apiKey }: ServerOptions): Client {
  return new Client(server, apiKey);
}

function readServer(value: string): string {
  const url = URL.canParse(value) ? new URL(value) : undefined;
  if (url === undefined || !['http:', 'https:'].includes(url.protocol) || url.search || url.hash) {
    throw new InvalidArgumentError(`It must be an address such as ${DEFAULT_SERVER}.`);
  }
  return url.href.replace(/\/+$/, '');
}
