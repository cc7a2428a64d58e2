import type { Resource } from './access.ts';
import type { Layout } from './layout.ts';

/** What gcloud calls the resource, before and after the verb. */
export function policyArguments(
  layout: Layout,
  { kind, name }: Resource,
  verb: 'get-iam-policy' | 'set-iam-policy',
  ...file: string[]
): string[] {
  const { region } = layout;
  switch (kind) {
    case 'bucket':
      return ['storage', 'buckets', verb, `gs://${name}`, ...file];
    case 'queue':
      return ['tasks', 'queues', verb, name, ...file, `--location=${region}`];
    case 'account':
      return ['iam', 'service-accounts', verb, name, ...file];
    case 'secret':
      return ['secrets', verb, name, ...file];
    case 'service':
      return ['run', 'services', verb, name, ...file, `--region=${region}`];
    case 'job':
      return ['run', 'jobs', verb, name, ...file, `--region=${region}`];
    case 'repository':
      return ['artifacts', 'repositories', verb, name, ...file, `--location=${region}`];
  }
}
