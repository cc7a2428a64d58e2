import { usesMistral } from '../../access.ts';
import type { Layout } from '../../layout.ts';
import { manifests } from '../../manifests.ts';
import { containerOf } from '../deployed-run.ts';
import { type Check, type Finding, ifSeen, notYet, ok, problem, warning } from '../finding.ts';
import { deployAgain, shown } from '../fix-commands.ts';

export const checkSecrets: Check = {
  title: 'secrets',
  look: ({ secrets, runs }, layout) =>
    ifSeen('The secrets', secrets, (there) => {
      const { apiKeys, urlSigningKey, mistralApiKey, hfToken } = layout.environment.secrets;
      const isDeployed =
        runs.isSeen && runs.value.some(({ metadata }) => metadata.name === layout.services.api);
      const needed = [
        apiKeys,
        urlSigningKey,
        ...(mistralApiKey === undefined || !usesMistral(layout) ? [] : [mistralApiKey]),
      ];
      const findings = needed.flatMap((name): Finding[] => {
        const found = there.get(name);
        if (found === undefined && !isDeployed) return [notYet(name)];
        const has = found === undefined ? false : found.hasValue.isSeen ? found.hasValue.value : undefined;
        if (has === undefined) return [warning(`whether ${name} has a value could not be seen`)];
        if (has) return [ok(`${name} has a value`)];
        return [
          problem(`${name} ${found === undefined ? 'does not exist' : 'has no value'}`, {
            why: 'New instances of the services that read it do not start.',
            fix:
              name === mistralApiKey
                ? 'Make a key at https://console.mistral.ai/api-keys and deploy with it once, in MISTRAL_API_KEY; or give it a value by hand.'
                : 'Deploy again, which makes one up; or give it a value by hand.',
            commands: [
              ...(name === mistralApiKey ? [] : [deployAgain(layout)]),
              shown(layout, 'secrets', 'versions', 'add', name, '--data-file=-'),
            ],
          }),
        ];
      });
      if (hfToken === undefined) return findings;
      const token = there.get(hfToken)?.hasValue;
      return [
        ...findings,
        token?.isSeen && token.value
          ? ok(`${hfToken} has a value`)
          : warning(`${hfToken} has no value`, {
              why: 'Images are built without the diarization model, and jobs that ask for speakers are refused.',
              fix: 'Accept the conditions of the model on Hugging Face, make a token that may read it, and deploy with it once.',
              commands: [
                { line: `HF_TOKEN=… npm run deploy -- up --environment ${layout.environment.name}` },
              ],
            }),
      ];
    }),
};

export const checkMistralKey: Check = {
  title: 'Mistral',
  look: ({ isMistralKeyTaken }, layout) => {
    const { mistralApiKey } = layout.environment.secrets;
    // Whether there is one at all is told by the check of the secrets.
    if (isMistralKeyTaken === undefined || mistralApiKey === undefined) return [];
    return ifSeen('Whether Mistral takes the key', isMistralKeyTaken, (isTaken) =>
      isTaken
        ? [ok('takes the key')]
        : [
            problem(`Mistral refuses the key in ${mistralApiKey}`, {
              why: 'Jobs of the tier standard fail. A key may be deleted, or its workspace have no plan.',
              fix: 'Make another at https://console.mistral.ai/api-keys and store it; then deploy again or wait for new instances of cpu-service, which read it when they start.',
              commands: [shown(layout, 'secrets', 'versions', 'add', mistralApiKey, '--data-file=-')],
            }),
          ],
    );
  },
};

export const checkImages: Check = {
  title: 'images',
  look: ({ images, runs }, layout) =>
    ifSeen('The images', images, (there) => {
      const names = new Set(manifests(layout).map(({ metadata }) => metadata.name));
      const deployed = runs.isSeen ? runs.value.filter(({ metadata }) => names.has(metadata.name)) : [];
      const missing = deployed.flatMap((run): Finding[] => {
        const { image } = containerOf(run);
        if (image === undefined || there.has(image) || image.includes('@')) return [];
        if (!image.includes(`/${layout.project.id}/${layout.repository}/`)) return [];
        return [
          problem(`${run.metadata.name} runs ${image}, which is gone`, {
            why: 'Cloud Run keeps a copy for revisions that serve, but nothing new can be made of it.',
            fix: 'Build and deploy again.',
            commands: [deployAgain(layout)],
          }),
        ];
      });
      const behind = deployed
        .filter((run) => !Object.values(layout.images).includes(containerOf(run).image ?? ''))
        .map(({ metadata }) => metadata.name);
      return [
        ...missing,
        ...Object.values(layout.images).map((image) => (there.has(image) ? ok(image) : notYet(image))),
        ...(behind.length > 0
          ? [
              ok(
                `${behind.join(', ')}: of other code or models than are here; \`npm run deploy -- up\` brings these`,
              ),
            ]
          : []),
      ];
    }),
};

export const checkModels: Check = {
  title: 'models',
  look: ({ capabilities, secrets }, layout) =>
    layout.environment.backends.flatMap(({ name }) => {
      const found = capabilities.get(name);
      if (found === undefined) return [];
      return ifSeen(`What ${name} can do`, found, (value) => {
        if (value === undefined) {
          return [ok(`${name}: no instance has loaded its models yet, so nothing is known of them`)];
        }
        return modelFindings(layout, name, value, hasToken(layout, secrets));
      });
    }),
};

function modelFindings(
  layout: Layout,
  backend: string,
  {
    models,
    alignment_languages,
    can_diarize,
  }: { models: { name: string }[]; alignment_languages: string[]; can_diarize: boolean },
  expectsDiarization: boolean,
): Finding[] {
  const { whisperModels, alignmentLanguages } = layout.environment.images;
  const has = new Set(models.map(({ name }) => name));
  const missing = whisperModels.filter((model) => !has.has(model));
  const languages = alignmentLanguages.filter((code) => !alignment_languages.includes(code));
  const again = { fix: 'Build and deploy again.', commands: [deployAgain(layout)] };
  return [
    missing.length > 0
      ? problem(`${backend} has no ${missing.join(', ')}`, {
          why: `Jobs that name one are refused. It has ${[...has].join(', ')}.`,
          ...again,
        })
      : ok(`${backend}: ${[...has].join(', ')}${can_diarize ? ', speakers' : ', no speakers'}`),
    ...(languages.length > 0
      ? [
          warning(`${backend} has no alignment models for ${languages.join(', ')}`, {
            why: 'Words of these languages get their times from attention.',
            ...again,
          }),
        ]
      : []),
    ...(expectsDiarization && !can_diarize
      ? [
          warning(`${backend} cannot tell speakers apart`, {
            why: 'Its image was built before there was a token for the diarization model.',
            ...again,
          }),
        ]
      : []),
  ];
}

function hasToken(layout: Layout, secrets: Parameters<Check['look']>[0]['secrets']): boolean {
  const { hfToken } = layout.environment.secrets;
  if (hfToken === undefined || !secrets.isSeen) return false;
  const value = secrets.value.get(hfToken)?.hasValue;
  return value?.isSeen === true && value.value;
}
