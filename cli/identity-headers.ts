/**
 * For a private service of Cloud Run: Google's front end takes the token from this header and leaves the key of the
 * service, which has the usual one, alone.
 */
export function identityHeaders(token: string | undefined): Record<string, string> {
  return token ? { 'x-serverless-authorization': `Bearer ${token}` } : {};
}
