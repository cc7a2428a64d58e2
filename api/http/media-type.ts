/** Whether a browser may be given the media under its own type. Anything else could be a page that runs in our name. */
export function isPlayable(contentType: string): boolean {
  return /^(audio|video)\/[a-z0-9.+-]+$/.test(contentType) || contentType === 'application/ogg';
}
