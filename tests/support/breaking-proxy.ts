import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';

/** Stands between a client and a service, and breaks connections. */
export interface BreakingProxy {
  url: string;
  /** How many connections it broke. */
  broken(): number;
  close(): Promise<void>;
}

/**
 * Breaks a connection each time that so many bytes from clients have gone through, over all connections. `target` is
 * asked for each connection, so that the service may move.
 */
export async function startBreakingProxy(
  target: () => string,
  breaksAtBytes: readonly number[],
): Promise<BreakingProxy> {
  const breaks = [...breaksAtBytes].sort((a, b) => a - b);
  let passedBytes = 0;
  const open = new Set<Socket>();
  let brokenCount = 0;
  const server = createServer((client) => {
    const { hostname, port } = new URL(target());
    const service = connect(Number(port), hostname);
    for (const [socket, other] of [
      [client, service],
      [service, client],
    ] as const) {
      open.add(socket);
      socket.on('error', () => other.destroy());
      socket.on('close', () => {
        open.delete(socket);
        other.destroySoon();
      });
    }
    client.on('data', (chunk: Buffer) => {
      const leftBytes = (breaks[0] ?? Number.POSITIVE_INFINITY) - passedBytes;
      const passed = chunk.subarray(0, leftBytes);
      passedBytes += passed.length;
      const goesOn = service.write(passed);
      if (chunk.length >= leftBytes) {
        breaks.shift();
        brokenCount += 1;
        // As a network does: what was sent may arrive, and then nothing more comes.
        client.removeAllListeners('data').destroy();
      } else if (!goesOn) {
        client.pause();
        service.once('drain', () => client.resume());
      }
    });
    service.on('data', (chunk) => void client.write(chunk));
    service.on('end', () => client.end());
    client.on('end', () => service.end());
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    broken: () => brokenCount,
    async close() {
      const closed = once(server, 'close');
      server.close();
      for (const socket of open) socket.destroy();
      await closed;
    },
  };
}
