import { Readable } from 'node:stream';

/**
 * A stream of the pieces. Destroying it calls `stop` at once, which must end the wait for the next piece: the stream
 * that Node makes of a generator closes only after that piece, which may never come.
 */
export function streamPieces(pieces: AsyncGenerator<Uint8Array>, stop: () => void): Readable {
  return new Readable({
    read() {
      pieces.next().then(
        ({ value, done }) => this.push(done ? null : value),
        (error: Error) => this.destroy(error),
      );
    },
    destroy(error, done) {
      stop();
      pieces.return(undefined).catch(() => {});
      done(error);
    },
  });
}
