import type { Choice, Estimate, RoutedJob } from './estimate.ts';
import { lengthInWords, usdInWords } from './in-words.ts';

/** Why a choice is as it is: what follows "it is this one, because". */
export function becauseOf(
  { chosen, estimates, isInTime }: Choice,
  { audioSeconds, secondsLeft }: RoutedJob,
): string {
  const others = estimates.filter((one) => one !== chosen);
  const left = lengthInWords(Math.max(0, secondsLeft ?? 0));
  if (!isInTime) {
    return `none is expected to be done in the ${left} that are left, and ${chosen.backend} is done first, in ${lengthInWords(chosen.doneInSeconds)}`;
  }
  const cheaper = others.filter(({ expectedUsd }) => expectedUsd < chosen.expectedUsd);
  if (cheaper.length > 0) {
    const late = cheaper.map(
      ({ backend, doneInSeconds }) => `${backend} would take ${lengthInWords(doneInSeconds)}`,
    );
    return `it costs least of those that are done in the ${left} that are left: ${usdInWords(chosen.expectedUsd)}; ${late.join(', ')}`;
  }
  const [next] = others.toSorted((one, other) => one.expectedUsd - other.expectedUsd);
  const instead = next === undefined ? '' : ` instead of ${usdInWords(next.expectedUsd)}`;
  return `${howItIs(chosen)} for a recording of ${lengthInWords(audioSeconds)}: ${usdInWords(chosen.expectedUsd)}${instead}`;
}

function howItIs({ backend, meets, sharedBy }: Estimate): string {
  if (meets === 'idle' && sharedBy !== null) return `an instance of ${backend} is warm, which costs least`;
  if (meets === 'start' && sharedBy !== null && sharedBy >= 2) {
    return `recordings come so often that about ${Math.round(sharedBy)} will share an instance of ${backend}, which costs least`;
  }
  return `${backend} costs least`;
}
