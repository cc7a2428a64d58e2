import type { Capabilities } from '../core/capabilities.ts';
import type { Models } from './models.ts';
import type { SidecarConfig } from './supervisor/protocol.ts';

/** What this backend tells those who accept jobs for it. Where its models lie is nobody's business. */
export function describeCapabilities(
  { models, default_model }: Models,
  { alignment_models, diarization_model }: Pick<SidecarConfig, 'alignment_models' | 'diarization_model'>,
): Capabilities {
  return {
    default_model,
    models: models.map(({ name, is_multilingual, can_translate }) => ({
      name,
      is_multilingual,
      can_translate,
    })),
    alignment_languages: Object.keys(alignment_models).sort(),
    can_diarize: diarization_model !== null,
  };
}
