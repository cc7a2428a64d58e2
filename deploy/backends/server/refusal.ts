/** The machine, or what was asked of it, will not do. The message says what to do about it. */
export class Refusal extends Error {
  override readonly name = 'Refusal';
}
