import { MANIFEST_LABEL, type Manifest } from './knative.ts';
import type { DeployedRun } from './observe.ts';

/**
 * What a deployment would change, as lines of a diff: `- path: what is`, `+ path: what will be`. Google adds much to a
 * manifest; only what we say is compared. `isSameManifest`: it was deployed from this very manifest, so what is missing
 * was left out by Google, which does not repeat what is its default.
 */
export function manifestDifferences(found: DeployedRun, wanted: Manifest, isSameManifest = false): string[] {
  const before = flat(found);
  const after = flat(wanted);
  // A variable that is left out is a change, though nothing is wanted in its place.
  const gone = [...before.keys()].filter((path) => /\benv\./.test(path) && !after.has(path));
  return [
    ...[...after].flatMap(([path, value]) => {
      const old = before.get(path);
      if (old === value || (old === undefined && isSameManifest)) return [];
      return [...(old === undefined ? [] : [`- ${path}: ${old}`]), `+ ${path}: ${value}`];
    }),
    ...gone.map((path) => `- ${path}: ${before.get(path)}`),
  ];
}

/** Path → value. Members of a list go by their name where they have one. */
function flat({ metadata, spec }: DeployedRun | Manifest): Map<string, string> {
  const lines = new Map<string, string>();
  const walk = (path: string, value: unknown): void => {
    if (typeof value !== 'object' || value === null) {
      // Processors come back as thousandths.
      lines.set(path, String(value).replace(/^(\d+)000m$/, '$1'));
      return;
    }
    const { name, value: text } = value as { name?: unknown; value?: unknown };
    if (path.includes('env.') && typeof name === 'string' && text !== undefined) {
      lines.set(path, String(text));
      return;
    }
    for (const [key, child] of Object.entries(value)) {
      const label = (child as { name?: unknown } | null)?.name;
      walk(
        path === '' ? key : `${path}.${Array.isArray(value) && typeof label === 'string' ? label : key}`,
        child,
      );
    }
  };
  // Our label of the manifest's hash says nothing to a reader.
  const { labels: { [MANIFEST_LABEL]: _, ...labels } = {}, annotations = {} } = metadata;
  walk('', { labels, annotations, spec });
  return lines;
}
