import { ACCOUNT_ROLES, type AccountRole } from '../layout.ts';
import type { Step } from '../step.ts';

const PURPOSES: Record<AccountRole, string> = {
  api: 'the API',
  cpu: 'cpu-service',
  gpu: 'gpu-service',
  invoker: 'brings tasks to the private services',
  build: 'builds images',
};

export const createAccounts: Step = {
  title: 'service accounts',
  changes({ accounts }, { layout }) {
    const { prefix, name } = layout.environment;
    return ACCOUNT_ROLES.filter((role) => !accounts.has(layout.accounts[role])).map((role) => ({
      title: `make the account ${prefix}-${role} (${PURPOSES[role]})`,
      commands: [
        {
          args: [
            'iam',
            'service-accounts',
            'create',
            `${prefix}-${role}`,
            `--display-name=Zeroscribe ${name}: ${PURPOSES[role]}`,
          ],
        },
      ],
    }));
  },
};
