import { LANGUAGES_WITHOUT_SPACES, UNKNOWN_LANGUAGE } from '../languages.ts';

const LETTER = /\p{L}/gu;
const LETTER_WITHOUT_SPACES =
  /[\p{Script=Han}\p{Script=Hiragana}\p{Script=Katakana}\p{Script=Thai}\p{Script=Lao}\p{Script=Khmer}\p{Script=Myanmar}]/gu;

/** What stands between words. Where nobody knows the language, the script of `text` decides. */
export function wordSeparator(language: string, text: string): '' | ' ' {
  if (language !== UNKNOWN_LANGUAGE) return LANGUAGES_WITHOUT_SPACES.has(language) ? '' : ' ';
  return count(LETTER_WITHOUT_SPACES, text) * 2 > count(LETTER, text) ? '' : ' ';
}

function count(pattern: RegExp, text: string): number {
  return text.match(pattern)?.length ?? 0;
}
