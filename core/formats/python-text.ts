/**
 * Subtitles have to equal those of WhisperX, which is Python: a string's length counts code points, `strip` knows
 * other white space than `trim` (the information separators and NEL, not the byte order mark), halves round to even.
 */
const WHITE_SPACE = '\\t-\\r\\x1c-\\x20\\x85\\xa0\\u1680\\u2000-\\u200a\\u2028\\u2029\\u202f\\u205f\\u3000';
const LEADING = new RegExp(`^[${WHITE_SPACE}]+`);
const TRAILING_CHARACTER = new RegExp(`[${WHITE_SPACE}]$`);
const UNDERLINED = new RegExp(`^([${WHITE_SPACE}]*)([^\\n]*)(\\n?)$`);

export function strip(text: string): string {
  let end = text.length;
  // A regular expression anchored at the end would look for it from every run of spaces in the text.
  while (end > 0 && TRAILING_CHARACTER.test(text.charAt(end - 1))) end -= 1;
  return text.slice(0, end).replace(LEADING, '');
}

export function codePointLength(text: string): number {
  let length = 0;
  for (const _ of text) length += 1;
  return length;
}

/** A word with a line break inside it stays as it is. */
export function underline(word: string): string {
  return word.replace(UNDERLINED, '$1<u>$2</u>$3');
}

export function toMilliseconds(seconds: number): number {
  const exact = seconds * 1000;
  const below = Math.floor(exact);
  if (exact - below !== 0.5) return Math.round(exact);
  return below % 2 === 0 ? below : below + 1;
}
