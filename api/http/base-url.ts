import type { Request } from 'express';

/** With which addresses in answers begin: as the operator says, or else as the client reached us. */
export function baseUrl(req: Request, publicUrl: string | undefined): string {
  const host = req.get('host');
  return publicUrl ?? (host === undefined ? '' : `${req.protocol}://${host}`);
}
