/** The other side has nothing of the upload any more: it has to begin anew. */
export class UploadGone extends Error {
  override readonly name = 'UploadGone';

  constructor() {
    super('The upload is no longer there. Run the command again.');
  }
}

/** 499 is how Cloud Storage answers for a session that was canceled. */
export function hasEnded(status: number): boolean {
  return status === 404 || status === 410 || status === 499;
}
