import type { Capabilities } from '../../core/capabilities.ts';
import type { DeployedBucket, DeployedQueue, DeployedRun } from '../observe.ts';
import type { Policy } from '../policy.ts';

/** What could be looked at, or why not: a right that is missing is no reason to say nothing about the rest. */
export type Seen<T> = { isSeen: true; value: T } | Unseen;

export interface Unseen {
  isSeen: false;
  why: string;
  /** One of the checks says it for all that it hides. */
  isToldElsewhere?: true;
}

export function seen<T>(value: T): Seen<T> {
  return { isSeen: true, value };
}

export function unseen(why: string): Unseen {
  return { isSeen: false, why };
}

/** What is there, of this environment and of what it shares with others. Gathered once; the checks only read it. */
export interface Facts {
  gcloudVersion: Seen<string>;
  /** Empty where nobody is logged in. */
  account: Seen<string>;
  hasBilling: Seen<boolean>;
  apis: Seen<ReadonlySet<string>>;
  /** Of the region, and by the name that Cloud Run's own errors use; -1 is no limit. */
  runQuotas: Seen<ReadonlyMap<string, number>>;
  /** By the name of the metric, in the region of each Vertex AI backend: `REGION METRIC`. */
  vertexQuotas: Seen<ReadonlyMap<string, number>>;
  /** By email. */
  accounts: Seen<ReadonlyMap<string, { isDisabled: boolean }>>;
  bucket: Seen<StoreBucket | undefined>;
  queues: Seen<ReadonlyMap<string, DeployedQueue>>;
  secrets: Seen<ReadonlyMap<string, { hasValue: Seen<boolean> }>>;
  /** All services and jobs of the region: quotas are shared with other environments and with strangers. */
  runs: Seen<readonly DeployedRun[]>;
  /** With their tags. */
  images: Seen<ReadonlySet<string>>;
  /** By `keyOf`; what does not exist has none. */
  policies: ReadonlyMap<string, Seen<Policy>>;
  /** By backend; undefined where no instance has run yet. */
  capabilities: ReadonlyMap<string, Seen<Capabilities | undefined>>;
  /** Whether cpu-service may run jobs at Vertex AI; undefined where no backend is there. */
  mayUseVertex: Seen<boolean> | undefined;
  /** Whether Mistral takes the key; undefined where no backend needs it or the secret has no value. */
  isMistralKeyTaken: Seen<boolean> | undefined;
  orgPolicies: ReadonlyMap<string, Seen<OrgPolicy>>;
  /** Whether the API answers `/health/live`; undefined where it is not deployed or lets only some people through. */
  apiAnswers: Seen<boolean> | undefined;
}

export interface StoreBucket extends DeployedBucket {
  location?: string;
  versioning?: { enabled?: boolean };
  retentionPolicy?: unknown;
}

/** `gcloud org-policies describe --effective` */
export interface OrgPolicy {
  spec?: { rules?: OrgPolicyRule[] };
}

export interface OrgPolicyRule {
  allowAll?: boolean;
  denyAll?: boolean;
  enforce?: boolean;
  condition?: unknown;
  values?: { allowedValues?: string[]; deniedValues?: string[] };
}
