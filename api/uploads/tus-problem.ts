import { ERRORS } from '@tus/server';
import { mediaTooLarge } from '../../core/media-too-large.ts';
import { ServiceError, toServiceError } from '../../core/problem.ts';
import { beyondLength, conflict, noSuchUpload } from './tus-store.ts';

/**
 * What is answered instead of the plain text of @tus/server. `failure` is what was thrown in it; its own answers to
 * malformed headers have none, and name the headers.
 */
export function tusProblem(failure: unknown, text: string, maxUploadBytes: number): ServiceError {
  switch (failure) {
    case undefined:
      return invalid(`The request is not as tus 1.0.0 wants it: ${text.trim().toLowerCase()}.`);
    case ERRORS.FILE_NOT_FOUND:
      return noSuchUpload();
    case ERRORS.ABORTED:
      return takenOver();
    case ERRORS.INVALID_OFFSET:
      return conflict();
    case ERRORS.ERR_SIZE_EXCEEDED:
      return beyondLength();
    case ERRORS.ERR_MAX_SIZE_EXCEEDED:
      return mediaTooLarge(maxUploadBytes);
    case ERRORS.MISSING_OFFSET:
      return invalid('Say in the header Upload-Offset where the piece begins.', 'Upload-Offset');
    case ERRORS.INVALID_LENGTH:
      return invalid('Say in the header Upload-Length how many bytes the upload has.', 'Upload-Length');
    case ERRORS.INVALID_METADATA:
      return invalid(
        'The header Upload-Metadata must hold pairs of a key and a base64 value.',
        'Upload-Metadata',
      );
    case ERRORS.UNSUPPORTED_CONCATENATION_EXTENSION:
      return notSupported('Parallel parts of an upload are not supported. Send them one after the other.');
    case ERRORS.UNSUPPORTED_CREATION_DEFER_LENGTH_EXTENSION:
      return notSupported('The length of an upload must be known when it is created: send Upload-Length.');
    default:
      return toServiceError(failure);
  }
}

export function takenOver(): ServiceError {
  return new ServiceError('upload-locked', 'Another request has taken over this upload. Try again.');
}

function invalid(detail: string, field?: string): ServiceError {
  return new ServiceError('invalid-request', detail, field === undefined ? {} : { extensions: { field } });
}

function notSupported(detail: string): ServiceError {
  return new ServiceError('not-supported', detail);
}
