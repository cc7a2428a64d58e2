import { buildCommand } from '../images.ts';
import { IMAGE_NAMES } from '../layout.ts';
import type { Step } from '../step.ts';

export const buildImages: Step = {
  title: 'images',
  changes({ images }, { layout, withHfToken }) {
    return IMAGE_NAMES.filter((name) => !images.has(layout.images[name])).map((name) => ({
      title: `build the image ${layout.images[name]}${name === 'gpu' ? ' (some twenty minutes, mostly models)' : ''}`,
      commands: [buildCommand(layout, name, withHfToken)],
    }));
  },
};
