import { createHash } from 'node:crypto';
import { stringify } from 'yaml';
import type { Layout } from './layout.ts';
import type { Variables } from './service-variables.ts';

// The form in which `gcloud run … replace` takes services and jobs: what is not in the manifest is not deployed.

export interface Manifest {
  apiVersion: 'serving.knative.dev/v1' | 'run.googleapis.com/v1';
  kind: 'Service' | 'Job';
  metadata: { name: string; labels: Record<string, string>; annotations: Record<string, string> };
  spec: Record<string, unknown>;
}

export interface Container {
  image: string;
  /** In place of the image's own, after its entry point. */
  args?: string[];
  ports?: { name: 'http1' | 'h2c'; containerPort: number }[];
  env: EnvironmentVariable[];
  resources: { limits: Record<string, string> };
  startupProbe?: Record<string, unknown>;
  volumeMounts?: { name: string; mountPath: string }[];
}

export type EnvironmentVariable =
  | { name: string; value: string }
  | { name: string; valueFrom: { secretKeyRef: { name: string; key: string } } };

export const PORT = 8_080;

/** `secrets`: the name in Secret Manager of what a variable holds. */
export function environmentOf(
  variables: Variables,
  secrets: Record<string, string | undefined> = {},
): EnvironmentVariable[] {
  return [
    ...Object.entries(variables).map(([name, value]) => ({ name, value })),
    ...Object.entries(secrets).flatMap(([name, secret]) =>
      secret === undefined ? [] : [{ name, valueFrom: { secretKeyRef: { name: secret, key: 'latest' } } }],
    ),
  ];
}

/**
 * Whether the process listens, asked every second: what a probe misses by a moment is waited for once more. Not
 * whether its models are loaded, which it waits for inside.
 */
export const STARTUP_PROBE = {
  httpGet: { path: '/health/live', port: PORT },
  periodSeconds: 1,
  timeoutSeconds: 1,
  // Cloud Run allows 240 s in all.
  failureThreshold: 240,
};

export const GPU_NODE = { 'run.googleapis.com/accelerator': 'nvidia-l4' };

export function limits(vcpu: number, memoryGib: number, gpus = 0): Record<string, string> {
  return {
    cpu: String(vcpu),
    memory: `${memoryGib}Gi`,
    ...(gpus > 0 && { 'nvidia.com/gpu': String(gpus) }),
  };
}

/** The bucket as files, read-only. */
export function bucketVolume(name: string, bucket: string) {
  return {
    name,
    csi: {
      driver: 'gcsfuse.run.googleapis.com',
      readOnly: true,
      volumeAttributes: { bucketName: bucket },
    },
  };
}

/** The hash of the manifest that something was deployed from. */
export const MANIFEST_LABEL = 'zeroscribe-manifest';

/** Adds the labels by which it is found again, and by which a change is seen that only takes something away. */
export function labelled(layout: Layout, manifest: Manifest, labels: Record<string, string> = {}): Manifest {
  const hash = createHash('sha256').update(JSON.stringify(manifest)).digest('hex').slice(0, 16);
  const { apiVersion, kind, metadata, spec } = manifest;
  const all = { ...metadata.labels, ...layout.labels, ...labels, [MANIFEST_LABEL]: hash };
  return { apiVersion, kind, metadata: { ...metadata, labels: all }, spec };
}

export function manifestHash({ metadata }: { metadata: { labels?: Record<string, string> } }) {
  return metadata.labels?.[MANIFEST_LABEL];
}

export function toYaml(manifest: Manifest): string {
  return stringify(manifest, { lineWidth: 0, aliasDuplicateObjects: false });
}

/** Of a service that only Cloud Tasks calls, which counts as internal. */
export const PRIVATE_SERVICE_ANNOTATIONS = {
  'run.googleapis.com/ingress': 'internal',
  // Said, so that a plan shows when somebody has switched the check off.
  'run.googleapis.com/invoker-iam-disabled': 'false',
} as const;
