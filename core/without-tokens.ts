/** What Google's libraries and APIs put into messages now and then must be in no log. */
export function withoutTokens(text: string): string {
  return text
    .replace(/eyJ[\w-]*(\.[\w-]*){1,2}/g, '[token]')
    .replace(/ya29\.[\w.-]+/g, '[token]')
    .replace(/(bearer\s+)[^\s"',]+/gi, '$1[token]')
    .replace(/((?:access|id|refresh)_token|assertion)(\W{1,4})[^\s"'&,}]+/gi, '$1$2[token]');
}
