import { buildCommand, buildTag, isUnderWay, waitForBuild } from '../images.ts';
import { IMAGE_NAMES } from '../layout.ts';
import type { Change, Step } from '../step.ts';

export const buildImages: Step = {
  title: 'images',
  changes({ images, builds }, { layout, withHfToken }) {
    return IMAGE_NAMES.filter((name) => !images.has(layout.images[name])).map((name): Change => {
      const image = layout.images[name];
      // Somebody started it and did not wait.
      const isBuilding = builds.some((build) => isUnderWay(build) && build.tags?.includes(buildTag(image)));
      return {
        title: `${isBuilding ? 'wait for the build of' : 'build'} the image ${image}${name === 'gpu' ? ' (some twenty minutes, mostly models)' : ''}`,
        commands: [
          ...(isBuilding ? [] : [buildCommand(layout, name, withHfToken)]),
          waitForBuild(layout, name),
        ],
      };
    });
  },
};
