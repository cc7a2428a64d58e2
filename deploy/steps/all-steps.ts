import type { Step } from '../step.ts';
import { buildImages } from './build-images.ts';
import { createAccounts } from './create-accounts.ts';
import { createBuckets } from './create-buckets.ts';
import { createQueues } from './create-queues.ts';
import { createRepository } from './create-repository.ts';
import { createSecrets } from './create-secrets.ts';
import { enableApis } from './enable-apis.ts';
import { grantBuildAccess, grantCallerAccess, grantServiceAccess, removeFormer } from './grant-access.ts';
import { replaceApi, replacePrivateServices } from './replace-services.ts';

/** In the order in which each finds what it needs. */
export const ALL_STEPS: readonly Step[] = [
  enableApis,
  createAccounts,
  createRepository,
  createBuckets,
  createSecrets,
  createQueues,
  grantBuildAccess,
  grantServiceAccess,
  buildImages,
  replacePrivateServices,
  replaceApi,
  grantCallerAccess,
  removeFormer,
];
