/**
 * A file of pip's without the packages that another names.
 * @param {string} requirements with hashes on the lines after a name
 * @param {string} names
 */
export function withoutPackages(requirements, names) {
  const unwanted = new Set(packagesIn(names));
  return blocksOf(requirements)
    .filter(({ name }) => name === undefined || !unwanted.has(name))
    .map(({ text }) => text)
    .join('');
}

/**
 * The lines of one package.
 * @param {string} requirements
 * @param {string} name
 */
export function onlyPackage(requirements, name) {
  return blocksOf(requirements)
    .filter((block) => block.name === name)
    .map(({ text }) => text)
    .join('');
}

/** @returns {string[]} */
function packagesIn(/** @type {string} */ names) {
  return blocksOf(names).flatMap(({ name }) => name ?? []);
}

/** @returns {{ name: string | undefined, text: string }[]} */
function blocksOf(/** @type {string} */ requirements) {
  return requirements
    .split(/^(?=\S)/m)
    .map((text) => ({ name: /^([A-Za-z0-9][\w.-]*)\s*==/.exec(text)?.[1], text }));
}
