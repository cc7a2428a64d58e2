import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { basename, join, resolve } from 'node:path';
import { WHISPER_LANGUAGES } from '../core/languages.ts';
import { ServiceError } from '../core/problem.ts';

/** A folder with a Whisper model in CTranslate2's layout. */
export interface WhisperModel {
  name: string;
  path: string;
  is_multilingual: boolean;
  can_translate: boolean;
}

/** The models of this machine, and which one does the jobs that name none. */
export interface Models {
  models: WhisperModel[];
  default_model: string;
  /** A sentence for the operator, such as "small, because …". */
  because: string;
}

export interface ModelsSettings {
  /** Each folder in it that holds a model.bin is a model with the folder's name. It may be missing. */
  modelsDir: string;
  /** The small one that an installed package carries. */
  packaged: { name: string; path: string } | null;
  /** WHISPER_MODEL: `auto`, the name of a model, or the path of its folder. */
  whisperModel: string;
  device: 'cpu' | 'cuda';
}

/** With an English-only vocabulary it is one less. */
const MULTILINGUAL_VOCABULARY = 51_865;

/** @throws {ServiceError} `model-not-available`, saying what the operator can do */
export function findModels({ modelsDir, packaged, whisperModel, device }: ModelsSettings): Models {
  const found = new Map<string, WhisperModel>();
  if (packaged !== null && isModel(packaged.path)) {
    found.set(packaged.name, describeModel(packaged.name, packaged.path));
  }
  for (const name of foldersIn(modelsDir)) {
    const path = join(modelsDir, name);
    if (isModel(path)) found.set(name, describeModel(name, path));
  }
  const given = whisperModel === 'auto' ? undefined : (found.get(whisperModel) ?? modelAt(whisperModel));
  if (given !== undefined) {
    found.set(given.name, given);
    return {
      models: [...found.values()],
      default_model: given.name,
      because: `${given.name}, because WHISPER_MODEL says so`,
    };
  }
  const names = [...found.keys()];
  if (whisperModel !== 'auto')
    throw notAvailable(`There is no model ${whisperModel} (WHISPER_MODEL)`, modelsDir, names);
  return { models: [...found.values()], ...chooseDefault(names, { modelsDir, packaged, device }) };
}

function chooseDefault(
  names: string[],
  { modelsDir, packaged, device }: Pick<ModelsSettings, 'modelsDir' | 'packaged' | 'device'>,
): { default_model: string; because: string } {
  const wanted = device === 'cuda' ? 'large-v3-turbo' : 'small';
  const machine = device === 'cuda' ? 'this machine has a CUDA GPU' : 'this machine has no CUDA GPU';
  const [first] = names;
  if (first === undefined) throw notAvailable('There is no Whisper model', modelsDir, names);
  if (names.includes(wanted)) return { default_model: wanted, because: `${wanted}, because ${machine}` };
  if (packaged !== null && names.includes(packaged.name)) {
    return {
      default_model: packaged.name,
      because: `${packaged.name}, because it comes with the installation and ${wanted} is not in ${modelsDir}`,
    };
  }
  const because = names.length === 1 ? 'it is the only model' : `it is the first model, and ${wanted} is not`;
  return { default_model: first, because: `${first}, because ${because} in ${modelsDir}` };
}

/** Language code → folder of the alignment model for it: the folders of `dir` that have the name of a language. */
export function alignmentModels(dir: string): Record<string, string> {
  const languages = foldersIn(dir).filter(
    (name) => WHISPER_LANGUAGES.has(name) && existsSync(join(dir, name, 'config.json')),
  );
  return Object.fromEntries(languages.map((language) => [language, resolve(dir, language)]));
}

function modelAt(path: string): WhisperModel | undefined {
  return isModel(path) ? describeModel(basename(resolve(path)), path) : undefined;
}

function describeModel(name: string, path: string): WhisperModel {
  const is_multilingual = knowsOtherLanguages(name, path);
  // Turbo and the distilled models were trained without translation: they answer in the language they hear.
  const can_translate = is_multilingual && !/turbo|distil/i.test(name);
  return { name, path: resolve(path), is_multilingual, can_translate };
}

function knowsOtherLanguages(name: string, path: string): boolean {
  if (name.endsWith('.en')) return false;
  const size = vocabularySize(path);
  return size === undefined || size >= MULTILINGUAL_VOCABULARY;
}

function vocabularySize(path: string): number | undefined {
  const [json, text] = ['vocabulary.json', 'vocabulary.txt'].map((file) => join(path, file)) as [
    string,
    string,
  ];
  try {
    if (existsSync(json)) return (JSON.parse(readFileSync(json, 'utf8')) as unknown[]).length;
    return readFileSync(text, 'utf8').replace(/\n$/, '').split('\n').length;
  } catch {
    return undefined;
  }
}

function isModel(path: string): boolean {
  return statSync(join(path, 'model.bin'), { throwIfNoEntry: false })?.isFile() ?? false;
}

/** In the order of their names. Links to folders count: models are large, and often kept elsewhere. */
function foldersIn(dir: string): string[] {
  if (!existsSync(dir)) return [];
  return readdirSync(dir)
    .filter((name) => statSync(join(dir, name), { throwIfNoEntry: false })?.isDirectory())
    .sort();
}

function notAvailable(what: string, modelsDir: string, names: string[]): ServiceError {
  const available = names.length === 0 ? '' : ` Available: ${names.join(', ')}.`;
  return new ServiceError(
    'model-not-available',
    `${what} on this machine.${available} Put the folder of a CTranslate2 Whisper model into ${modelsDir}, or give its path in WHISPER_MODEL.`,
  );
}
