import type { IncomingMessage } from 'node:http';
import { type Readable, Transform } from 'node:stream';
import { passedThrough } from '../http/collect-young.ts';

/**
 * The body of a request as far as it comes: it does not fail when the connection breaks, but ends there, because what
 * has arrived of a piece is worth keeping.
 */
export class PieceBody {
  readonly stream: Readable;
  /** Ends it early. */
  readonly stop: () => void;

  constructor(req: IncomingMessage) {
    const stream = new Transform({
      transform(chunk: Buffer, _encoding, done) {
        passedThrough(chunk.length);
        done(null, chunk);
      },
    });
    this.stream = stream;
    this.stop = () => {
      req.unpipe(stream);
      stream.end();
    };
    // Whoever reads it learns of its failure; nobody listening would end the process.
    stream.on('error', () => {});
    req.once('error', this.stop).once('close', this.stop);
    if (req.destroyed) this.stop();
    else req.pipe(stream);
  }
}
