/** `fields=items(name,size),nextPageToken`: only these members of an answer. */
export function selectFields(value: unknown, fields: string): unknown {
  return select(value, parse(fields));
}

type Selection = Map<string, Selection | undefined>;

function select(value: unknown, selection: Selection | undefined): unknown {
  if (selection === undefined || typeof value !== 'object' || value === null) return value;
  if (Array.isArray(value)) return value.map((item) => select(item, selection));
  if (selection.has('*')) return value;
  const members = Object.entries(value).filter(([name]) => selection.has(name));
  return Object.fromEntries(members.map(([name, member]) => [name, select(member, selection.get(name))]));
}

function parse(fields: string): Selection {
  const selection: Selection = new Map();
  // Each comma outside parentheses begins a new member; `a/b` is another way to write `a(b)`.
  for (const [, name = '', rest] of fields.matchAll(
    /([^,()/]+)((?:\/[^,()]+)|\((?:[^()]|\([^()]*\))*\))?/g,
  )) {
    const inner = rest?.startsWith('/') ? rest.slice(1) : rest?.slice(1, -1);
    selection.set(name, inner === undefined ? undefined : parse(inner));
  }
  return selection;
}
