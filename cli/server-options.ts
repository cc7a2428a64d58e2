import { type Command, InvalidArgumentError, Option } from 'commander';
import { Client } from './client.ts';
import { identityHeaders } from './identity-headers.ts';

export interface ServerOptions {
  server?: string;
  apiKey?: string;
  identityToken?: string;
}

export const DEFAULT_SERVER = 'http://127.0.0.1:8080';

export function addServerOptions(command: Command, description: string, defaultServer?: string): Command {
  const server = new Option('--server <url>', description).argParser(readServer);
  return command
    .addOption(defaultServer === undefined ? server : server.default(defaultServer))
    .addOption(new Option('--api-key <key>', 'key for that service').env('ZEROSCRIBE_API_KEY'))
    .addOption(
      new Option('--identity-token <token>', 'for a private service of Cloud Run, beside the key').env(
        'ZEROSCRIBE_IDENTITY_TOKEN',
      ),
    );
}

export function connect({ server = DEFAULT_SERVER, apiKey, identityToken }: ServerOptions): Client {
  return new Client(server, apiKey, identityHeaders(identityToken));
}

function readServer(value: string): string {
  const url = URL.canParse(value) ? new URL(value) : undefined;
  if (url === undefined || !['http:', 'https:'].includes(url.protocol) || url.search || url.hash) {
    throw new InvalidArgumentError(`It must be an address such as ${DEFAULT_SERVER}.`);
  }
  return url.href.replace(/\/+$/, '');
}
