import type { Check } from '../finding.ts';
import { checkAccess } from './access.ts';
import { checkAccounts, checkGcloud, checkProject, checkSight } from './account.ts';
import { checkBucket } from './bucket.ts';
import { checkAddresses } from './calls.ts';
import { checkImages, checkMistralKey, checkModels, checkSecrets } from './contents.ts';
import { checkOrgPolicies } from './org-policies.ts';
import { checkQueues } from './queues.ts';
import { checkQuota, checkRegion, checkVertexQuota } from './quota.ts';
import { checkApiAnswers, checkGpuShape, checkReady, checkServiceSettings } from './services.ts';

/** In the order in which one thing depends on another. */
export const ALL_CHECKS: readonly Check[] = [
  checkGcloud,
  checkSight,
  checkProject,
  checkOrgPolicies,
  checkRegion,
  checkQuota,
  checkVertexQuota,
  checkAccounts,
  checkBucket,
  checkQueues,
  checkSecrets,
  checkMistralKey,
  checkImages,
  checkReady,
  checkGpuShape,
  checkServiceSettings,
  checkAddresses,
  checkAccess,
  checkModels,
  checkApiAnswers,
];
