import { ServiceError } from './problem.ts';

export function mediaTooLarge(maxBytes: number, what: 'file' | 'object' = 'file'): ServiceError {
  return new ServiceError(
    'media-too-large',
    `The ${what} is larger than the ${maxBytes} bytes allowed here.`,
    {
      extensions: { max_bytes: maxBytes },
    },
  );
}
