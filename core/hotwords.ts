/** The terms in a text of hotwords, for models that want them one by one: what stands between commas, semicolons or line breaks. */
export function hotwordTerms(hotwords: string): string[] {
  const terms = hotwords.split(/[,;\n\r]/).map((term) => term.trim().replace(/\s+/g, ' '));
  return [...new Set(terms)].filter((term) => term !== '');
}
