import { withoutTokens } from '../../core/without-tokens.ts';

const MAX_CHARACTERS = 300;

/**
 * What an error of the API says, fit for a user and a log: short, without what it repeats of the request, which may be
 * a signed link. Its errors come as `{message}`, `{detail: text}` or, of FastAPI, `{detail: [{loc, msg}]}`.
 */
export function mistralsWords(body: string, apiKey: string): string {
  const text = withoutTokens(sentences(body).replaceAll(apiKey, '[key]'))
    .replace(/\b[a-z]+:\/\/\S+/gi, '[link]')
    // The half of one that a library names without its host.
    .replace(/\S*[?&]X-(?:Goog|Amz)-\S*/gi, '[link]')
    .replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\s]+/gu, ' ')
    .trim();
  return text.length > MAX_CHARACTERS ? `${text.slice(0, MAX_CHARACTERS).toWellFormed()}…` : text;
}

function sentences(body: string): string {
  let value: unknown;
  try {
    value = JSON.parse(body);
  } catch {
    // A page of a proxy says nothing that helps.
    return '';
  }
  const { message, detail, error } = (value ?? {}) as Record<string, unknown>;
  const said = message ?? detail ?? error;
  if (typeof said === 'string') return said;
  const list = Array.isArray(said) ? said : [said];
  return list.map(sentence).filter(Boolean).join('; ');
}

function sentence(item: unknown): string {
  const { msg, message, loc, detail } = (item ?? {}) as Record<string, unknown>;
  if (Array.isArray(detail)) return detail.map(sentence).join('; ');
  const text = msg ?? message ?? detail;
  if (typeof text !== 'string') return '';
  const field = Array.isArray(loc) ? loc.at(-1) : undefined;
  return typeof field === 'string' ? `${field}: ${text}` : text;
}
