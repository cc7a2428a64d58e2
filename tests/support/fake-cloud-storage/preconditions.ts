import { conditionNotMet, invalid, notModified } from './api-error.ts';

export interface Versions {
  generation: string;
  metageneration: string;
}

/** Throws unless all that the query asks of the current version holds. `current` is undefined where nothing is. */
export function checkPreconditions(
  query: URLSearchParams,
  current: Versions | undefined,
  { isRead }: { isRead: boolean },
): void {
  const asked = (name: string): string | undefined => {
    const value = query.get(name);
    if (value !== null && !/^\d+$/.test(value)) throw invalid(`Invalid argument: ${name}`);
    return value ?? undefined;
  };
  const generation = current?.generation ?? '0';
  const mustBe = asked('ifGenerationMatch');
  if (mustBe !== undefined && mustBe !== generation) throw conditionNotMet();
  const mustBeMeta = asked('ifMetagenerationMatch');
  if (mustBeMeta !== undefined && mustBeMeta !== current?.metageneration) throw conditionNotMet();

  const mustNotBe = asked('ifGenerationNotMatch');
  const mustNotBeMeta = asked('ifMetagenerationNotMatch');
  const isSame =
    mustNotBe === generation || (mustNotBeMeta !== undefined && mustNotBeMeta === current?.metageneration);
  // To a reader it is news that nothing is new.
  if (isSame) throw isRead ? notModified() : conditionNotMet();
}
