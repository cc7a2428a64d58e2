import { backendList } from '../backends/backend-list.ts';
import { environmentOf, labelled, limits, type Manifest, PORT, STARTUP_PROBE } from '../knative.ts';
import type { Layout } from '../layout.ts';
import { platformVariables, spendVariables, type Variables } from '../service-variables.ts';

/** Requests at a time of one instance: they wait for the store, hardly ever for the processor. */
const CONCURRENCY = 80;

export function apiManifest(layout: Layout): Manifest {
  const { api, secrets } = layout.environment;
  return labelled(layout, {
    apiVersion: 'serving.knative.dev/v1',
    kind: 'Service',
    metadata: {
      name: layout.services.api,
      labels: {},
      annotations: {
        'run.googleapis.com/ingress': 'all',
        // Public without a grant to everybody, which the policies of many organisations forbid.
        'run.googleapis.com/invoker-iam-disabled': String(api.access === 'public'),
      },
    },
    spec: {
      template: {
        metadata: {
          annotations: {
            'autoscaling.knative.dev/minScale': String(api.minInstances),
            'autoscaling.knative.dev/maxScale': String(api.maxInstances),
            'run.googleapis.com/execution-environment': 'gen2',
            'run.googleapis.com/startup-cpu-boost': 'true',
          },
        },
        spec: {
          serviceAccountName: layout.accounts.api,
          containerConcurrency: CONCURRENCY,
          // The longest that Cloud Run has: an upload may take long.
          timeoutSeconds: 3_600,
          containers: [
            {
              image: layout.images.api,
              // Its arguments and not its command, which is the image's own tini.
              args: ['node', 'api/main.js'],
              ports: [{ name: api.http2 ? 'h2c' : 'http1', containerPort: PORT }],
              env: environmentOf(apiVariables(layout), {
                API_KEYS: secrets.apiKeys,
                URL_SIGNING_KEY: secrets.urlSigningKey,
              }),
              resources: { limits: limits(api.vcpu, api.memoryGib) },
              startupProbe: STARTUP_PROBE,
            },
          ],
        },
      },
      traffic: [{ latestRevision: true, percent: 100 }],
    },
  });
}

function apiVariables(layout: Layout): Variables {
  const { api } = layout.environment;
  return {
    ...platformVariables(layout, backendList(layout)),
    ...spendVariables(layout),
    HTTP2: String(api.http2),
    PUBLIC_URL: api.publicUrl ?? layout.urls.api,
  };
}
