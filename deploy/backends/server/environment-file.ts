/** Variables in the syntax that systemd reads (EnvironmentFile) and a POSIX shell too. */
export function formatEnvironmentFile(
  variables: Readonly<Record<string, string>>,
  comments: Readonly<Record<string, string>> = {},
): string {
  return Object.entries(variables)
    .map(([name, value]) => {
      const comment = comments[name];
      return `${comment === undefined ? '' : `# ${comment}\n`}${name}=${quote(value)}\n`;
    })
    .join('');
}

function quote(value: string): string {
  if (/[\n\r\0]/.test(value)) throw new TypeError('a variable cannot hold a line break');
  return /^[\w@%+=:,./-]*$/.test(value) ? value : `"${value.replace(/["\\$`]/g, '\\$&')}"`;
}

const ASSIGNMENT = /^(?:export\s+)?([A-Za-z_]\w*)=(.*)$/;

/**
 * Reads what `formatEnvironmentFile` wrote, and what an operator made of it by hand.
 * @throws {SyntaxError} naming the line by its number, never by its text
 */
export function parseEnvironmentFile(text: string): Record<string, string> {
  const variables: Record<string, string> = {};
  for (const [i, line] of text.split('\n').entries()) {
    const trimmed = line.trim();
    if (trimmed === '' || /^[#;]/.test(trimmed)) continue;
    const [, name, value] = ASSIGNMENT.exec(trimmed) ?? [];
    const unquoted = value === undefined ? undefined : unquote(value);
    if (name === undefined || unquoted === undefined) {
      throw new SyntaxError(`Line ${i + 1} is not NAME=value: quote values with spaces or quotes.`);
    }
    variables[name] = unquoted;
  }
  return variables;
}

function unquote(value: string): string | undefined {
  const single = /^'([^']*)'$/.exec(value);
  if (single !== null) return single[1];
  const double = /^"((?:[^"\\]|\\.)*)"$/.exec(value);
  if (double !== null) return double[1]?.replace(/\\(["\\$`])/g, '$1');
  return /["'\\\s]/.test(value) ? undefined : value;
}
