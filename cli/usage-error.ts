/** The command line asks for something that cannot be done as written: exit code 2, before any work starts. */
export class UsageError extends Error {
  override readonly name = 'UsageError';
}
