import { fillTemplate } from './explain.ts';
import { ERROR_AREAS, type ErrorArea, KNOWN_ERRORS, type KnownError } from './known-errors.ts';

const INTRODUCTION = `# Troubleshooting

Written by \`npm run format\` from [deploy/known-errors.ts](../deploy/known-errors.ts); change it there.

## The doctor

\`\`\`sh
npm run deploy -- doctor                        # looks at staging, before a deploy or after it
npm run deploy -- doctor --fix                  # and runs what puts it right, after asking
npm run deploy -- doctor --explain error.txt    # only says what an error means: no account needed; - reads a pipe
\`\`\`

It asks gcloud for everything once, changes nothing, and says of each thing whether it is ok, a warning or a problem, with the reason,
the fix and the command: gcloud and its account, billing and APIs, organisation policies, region, quota of GPUs, memory and CPUs
against the greatest number of instances of all environments that share them, service accounts, bucket, queues against what workers can
take, secrets, images and their models, services and jobs (GPU, zonal redundancy, shape, billing mode, timeouts, probes, ingress),
addresses against audiences, and the rights of every account. What \`up\` has not made yet is no problem. What you may not look at is a
warning that says so. With a problem the exit code is 1. \`--fix\` runs only what concerns this environment and can be taken back.

What it reads has been tried with the real gcloud against our fake of Google's control planes, never in a real project.

## Known errors

Words in CAPITALS stand for names of yours; the doctor fills them in. No error here has been met by
Zeroscribe on Google Cloud itself yet: the texts come from Google's pages and from what others report, the address is given with each.
`;

/** docs/troubleshooting.md */
export function troubleshootingPage(): string {
  const sections = Object.entries(ERROR_AREAS).map(([area, heading]) => {
    const entries = KNOWN_ERRORS.filter((error) => error.area === (area as ErrorArea));
    return `### ${heading}\n\n${entries.map(describeError).join('\n')}`;
  });
  return [INTRODUCTION, ...sections].join('\n');
}

function describeError(error: KnownError): string {
  const { title, sample, source, cause, fix, commands } = error;
  return `#### ${title}

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
