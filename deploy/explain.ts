import { type Captured, type ErrorArea, KNOWN_ERRORS, type KnownError } from './known-errors.ts';

/** What is known of the deployment, for the commands: see ENVIRONMENT_VALUES. */
export type ErrorEnvironment = Readonly<Record<string, string | undefined>>;

export interface Explanation {
  id: string;
  area: ErrorArea;
  title: string;
  cause: string;
  fix: string;
  commands: string[];
}

/**
 * What an error means: the entries of the table that fit, the most telling first.
 * Undefined when none does: then the text is to be shown whole.
 */
export function explain(text: string, environment: ErrorEnvironment = {}): Explanation[] | undefined {
  const shown = text.replaceAll(/\s+/g, ' ');
  const matches = KNOWN_ERRORS.flatMap((error) => {
    const match = error.pattern.exec(shown);
    return match === null ? [] : [{ error, match }];
  });
  const telling = matches.filter(({ error }) => !error.isGeneral);
  const best = (telling.length > 0 ? telling : matches).toSorted(
    (a, b) => b.match[0].length - a.match[0].length,
  );
  if (best.length === 0) return undefined;
  const known = { ...environment, ...withoutGaps(namesIn(shown)) };
  return best.map(({ error, match }) => fillIn(error, match.groups ?? {}, known));
}

/** gcloud says before an error what it was about to deploy. */
function namesIn(text: string): Captured {
  const { kind, name, project, region } =
    /Cloud Run (?<kind>service|job) \[(?<name>[\w-]+)\] in (?:project|namespace) \[(?<project>[\w-]+)\](?: region \[(?<region>[\w-]+)\])?/.exec(
      text,
    )?.groups ?? {};
  return { project, region, ...(kind !== undefined && { [kind]: name }) };
}

function fillIn(error: KnownError, captured: Captured, environment: ErrorEnvironment): Explanation {
  const values = { ...environment, ...withoutGaps(captured), ...error.derive?.(captured) };
  const filled = (template: string) => fillTemplate(template, values);
  return {
    id: error.id,
    area: error.area,
    title: error.title,
    cause: filled(error.cause),
    fix: filled(error.fix),
    commands: error.commands.map(filled),
  };
}

/** `{name}` by its value, or NAME where there is none. */
export function fillTemplate(template: string, values: ErrorEnvironment): string {
  return template.replaceAll(/\{(\w+)\}/g, (_, name: string) => values[name] ?? name.toUpperCase());
}

function withoutGaps(captured: Captured): Captured {
  return Object.fromEntries(Object.entries(captured).filter(([, value]) => value !== undefined));
}

/** For a terminal: what is known about an error, or the error itself where nothing is. */
export function explainInWords(text: string, environment: ErrorEnvironment = {}): string {
  const explanations = explain(text, environment);
  if (explanations === undefined) {
    return `${withoutSecrets(text.trim())}\n\nThis error is not among those that are known here, so above is all of it.`;
  }
  return explanations.map(describeExplanation).join('\n\n');
}

export function describeExplanation({ title, cause, fix, commands }: Explanation): string {
  return [title, `  why: ${cause}`, `  fix: ${fix}`, ...commands.map((command) => `    $ ${command}`)].join(
    '\n',
  );
}

/** Google's own errors quote tokens at times. */
export function withoutSecrets(text: string): string {
  return text.replaceAll(
    /\b(?:ya29\.[\w.-]{10,}|eyJ[\w-]{8,}\.[\w-]+(?:\.[\w-]*)?|hf_\w{10,}|AIza[\w-]{30,})/g,
    '[a secret, left out]',
  );
}
