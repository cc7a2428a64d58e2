import net from 'node:net';

export interface Connections {
  /** `address:port` of every try to connect, as the operating system was asked. */
  attempts: string[];
  /** Including those that had not yet come to an address. */
  opened: number;
  [Symbol.dispose](): void;
}

/** Sees every socket of this process that sets out to connect, whichever client makes it. */
export function watchConnections(): Connections {
  const { connect } = net.Socket.prototype;
  const watched: Connections = {
    attempts: [],
    opened: 0,
    [Symbol.dispose]: () => {
      net.Socket.prototype.connect = connect;
    },
  };
  net.Socket.prototype.connect = function (this: net.Socket, ...args: unknown[]) {
    watched.opened++;
    this.on('connectionAttempt', (address: string, port: number) => {
      watched.attempts.push(`${address}:${port}`);
    });
    return Reflect.apply(connect, this, args) as net.Socket;
  } as typeof connect;
  return watched;
}
