import { fillTemplate } from './explain.ts';
import { ERROR_AREAS, type ErrorArea, KNOWN_ERRORS, type KnownError } from './known-errors.ts';

const INTRODUCTION = `# Troubleshooting

Written by \`npm run format\` from [deploy/known-errors.ts](../deploy/known-errors.ts); change it there.

\`npm run deploy -- doctor\` looks at an environment before and after a deploy and names what is wrong with it. It explains an error
that you have already, too, without any account:

\`\`\`sh
npm run deploy -- doctor --explain error.txt
pbpaste | npm run deploy -- doctor --explain -
\`\`\`

Below is all that it knows. Words in CAPITALS stand for names of yours; the doctor fills them in. No error here has been met by
Zeroscribe on Google Cloud itself yet: the texts come from Google's pages and from what others report, the address is given with each.
`;

/** docs/troubleshooting.md */
export function troubleshootingPage(): string {
  const sections = Object.entries(ERROR_AREAS).map(([area, heading]) => {
    const entries = KNOWN_ERRORS.filter((error) => error.area === (area as ErrorArea));
    return `## ${heading}\n\n${entries.map(describeError).join('\n')}`;
  });
  return [INTRODUCTION, ...sections].join('\n');
}

function describeError(error: KnownError): string {
  const { title, sample, source, cause, fix, commands } = error;
  return `### ${title}

\`\`\`
${sample}
\`\`\`

**Why:** ${withNames(cause)}

**What to do:** ${withNames(fix)}

\`\`\`sh
${commands.map((command) => fillTemplate(command, {})).join('\n')}
\`\`\`

Seen: ${source}.
`;
}

/** Outside code a name of its own would look like shouting. */
function withNames(text: string): string {
  return text.replaceAll(/`[^`]*`|\{\w+\}/g, (part) =>
    part.startsWith('`') ? fillTemplate(part, {}) : `\`${fillTemplate(part, {})}\``,
  );
}
