import type { Call, CloudState, Json } from './cloud-state.ts';

/** What a project may have: cloudbilling, cloudquotas and orgpolicy, as far as the doctor reads them. */

export function cloudBilling(_: Call, { project, hasBilling }: CloudState) {
  return {
    name: `projects/${project}/billingInfo`,
    projectId: project,
    billingEnabled: hasBilling,
    ...(hasBilling && { billingAccountName: 'billingAccounts/000000-000000-000000' }),
  };
}

/** In a shape as Cloud Quotas lists them: a number for most regions, and others for single ones. */
export function cloudQuotas({ path }: Call, { quotas }: CloudState) {
  const service = /\/services\/([^/]+)\/quotaInfos$/.exec(path)?.[1] ?? '';
  const quotaInfos = [...quotas]
    .filter(([name]) => name.startsWith(`${service}/`))
    .map(([name, value]): Json => {
      const quotaId = name.slice(service.length + 1);
      return {
        name: `projects/1/locations/global/services/${service}/quotaInfos/${quotaId}`,
        quotaId,
        metric: `${service}/${quotaId}`,
        service,
        dimensions: ['region'],
        dimensionsInfos: [
          {
            dimensions: { region: 'europe-west1' },
            details: { value: String(value) },
            applicableLocations: ['europe-west1'],
          },
          { details: { value: '0' }, applicableLocations: ['us-west1'] },
        ],
      };
    });
  return { quotaInfos };
}

/** Nothing is forbidden unless the state says so. */
export function orgPolicy({ path }: Call, { orgPolicies }: CloudState) {
  const [, name = '', constraint = ''] =
    /^\/v2\/(.*\/policies\/([^:]+)):getEffectivePolicy$/.exec(path) ?? [];
  const rules = orgPolicies.get(constraint) ?? [{ enforce: false }];
  return { name, spec: { rules } };
}
