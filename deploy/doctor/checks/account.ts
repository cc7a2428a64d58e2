import { neededApis } from '../../steps/enable-apis.ts';
import { type Check, ifSeen, ok, problem, warning } from '../finding.ts';
import { deployAgain, fixing } from '../fix-commands.ts';
import { DOCTOR_APIS } from '../gather-facts.ts';

/** What the commands here were checked with. */
const TRIED_VERSION = 528;

export const checkGcloud: Check = {
  title: 'gcloud',
  look: ({ gcloudVersion, account }) => [
    ...ifSeen('The version of gcloud', gcloudVersion, (version) =>
      Number.parseInt(version, 10) >= TRIED_VERSION
        ? [ok(`version ${version}`)]
        : [
            warning(`gcloud is version ${version}`, {
              why: `The commands of this tool were checked with ${TRIED_VERSION}; an older one may lack some.`,
              fix: 'Update it.',
              commands: [{ line: 'gcloud components update' }],
            }),
          ],
    ),
    ...ifSeen('The account', account, (email) =>
      // The project could be read, so something lets it in.
      email === ''
        ? [ok('works with a token or a key from elsewhere; gcloud itself has no account')]
        : [ok(`logged in as ${email}`)],
    ),
  ],
};

const SEEN_BY: Readonly<Record<(typeof DOCTOR_APIS)[number], string>> = {
  'cloudbilling.googleapis.com': 'billing',
  'cloudquotas.googleapis.com': 'quotas',
  'orgpolicy.googleapis.com': 'organisation policies',
};

export const checkSight: Check = {
  title: 'what can be looked at',
  look: ({ apis }, layout) =>
    ifSeen('Which APIs are enabled', apis, (enabled) => {
      const missing = DOCTOR_APIS.filter((api) => !enabled.has(api));
      if (missing.length === 0) return [ok('all of it')];
      return [
        warning(`not ${missing.map((api) => SEEN_BY[api]).join(', ')}`, {
          why: 'The APIs that tell of it are off. Nothing but the doctor needs them, and they cost nothing.',
          fix: 'Enable them.',
          commands: [fixing(layout, 'services', 'enable', ...missing)],
        }),
      ];
    }),
};

export const checkProject: Check = {
  title: 'project',
  look: ({ hasBilling, apis }, layout) => [
    ...ifSeen('Whether the project has billing', hasBilling, (has) =>
      has
        ? [ok(`${layout.project.id} has billing`)]
        : [
            problem(`${layout.project.id} has no open billing account`, {
              why: 'Nothing can be deployed without, and GPUs moreover need a paid one, no free trial.',
              fix: 'Link one.',
              commands: [
                { line: 'gcloud billing accounts list --filter=open=true' },
                {
                  line: `gcloud billing projects link ${layout.project.id} --billing-account=BILLING_ACCOUNT`,
                },
              ],
            }),
          ],
    ),
    ...ifSeen('Which APIs are enabled', apis, (enabled) => {
      const missing = neededApis(layout).filter((api) => !enabled.has(api));
      if (missing.length === 0) return [ok('all APIs are enabled')];
      // Before the first deploy none is, and `up` enables them.
      const isNew = !enabled.has('run.googleapis.com');
      const what = `not enabled: ${missing.join(', ')}`;
      if (isNew) return [ok(`${what}; \`npm run deploy -- up\` does that`)];
      return [
        problem(what, {
          why: 'What belongs to them fails, whatever else is right.',
          fix: 'Enable them.',
          commands: [fixing(layout, 'services', 'enable', ...missing)],
        }),
      ];
    }),
  ],
};

export const checkAccounts: Check = {
  title: 'service accounts',
  look: ({ accounts, runs }, layout) =>
    ifSeen('The service accounts', accounts, (there) => {
      const isDeployed =
        runs.isSeen && runs.value.some(({ metadata }) => metadata.name === layout.services.api);
      const emails = Object.values(layout.accounts);
      const missing = emails.filter((email) => !there.has(email));
      const disabled = emails.filter((email) => there.get(email)?.isDisabled);
      return [
        ...(missing.length > 0
          ? [
              isDeployed
                ? problem(`missing: ${missing.join(', ')}`, {
                    why: 'A service whose account is gone cannot start an instance, and a deleted account keeps none of its rights when it is made anew.',
                    fix: 'Deploy again: that makes them, and grants their rights.',
                    commands: [deployAgain(layout)],
                  })
                : ok(
                    `${missing.length} of ${emails.length} not there yet: \`npm run deploy -- up\` makes them`,
                  ),
            ]
          : []),
        ...disabled.map((email) =>
          problem(`${email} is disabled`, {
            why: 'Nothing may act as it: services do not start, tasks get no token.',
            fix: 'Enable it.',
            commands: [fixing(layout, 'iam', 'service-accounts', 'enable', email)],
          }),
        ),
        ...(missing.length === 0 && disabled.length === 0
          ? [ok('each service has its own; the default account is not used')]
          : []),
      ];
    }),
};
