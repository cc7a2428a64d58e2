const NAME_LIMIT_BYTES = 255;

/** Controls, and marks that turn the direction of text around: nothing that is shown to a human should hold them. */
const UNPRINTABLE = /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Co}]/gu;

/** What the user called the file, fit to be shown and offered for a download. It never names anything on a disk here. */
export function harmlessName(name: string): string | null {
  const base = name.toWellFormed().normalize('NFC').split(/[/\\]/).at(-1)?.replace(UNPRINTABLE, '').trim();
  if (base === undefined || /^\.*$/.test(base)) return null;
  const extension = /\.[A-Za-z0-9]{1,10}$/.exec(base)?.[0] ?? '';
  return cut(base.slice(0, base.length - extension.length), NAME_LIMIT_BYTES - extension.length) + extension;
}

/** Whole characters only. */
function cut(text: string, limitBytes: number): string {
  let sizeBytes = 0;
  let kept = '';
  for (const character of text) {
    sizeBytes += Buffer.byteLength(character);
    if (sizeBytes > limitBytes) break;
    kept += character;
  }
  return kept;
}
