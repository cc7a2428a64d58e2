/**
 * Every model that set-up and the images fetch. The revision fixes the bytes; `sha256` holds what they are known to be,
 * independently of the hub, and large files that are not in it are checked against what the hub lists for the revision.
 * A new entry: `curl 'https://huggingface.co/api/models/REPOSITORY?blobs=true'` shows its revision (`sha`), files and sums.
 * @typedef {object} ModelSource
 * @property {string} repository on Hugging Face
 * @property {string} revision
 * @property {string} license of the weights
 * @property {number} sizeBytes of all files together, about
 * @property {string[]} files names, with * where repositories differ
 * @property {Record<string, string>} sha256
 * @property {boolean} [isGated] wants the token of an account that has accepted its conditions
 */

const WHISPER = {
  license: 'MIT',
  files: ['config.json', 'preprocessor_config.json', 'model.bin', 'tokenizer.json', 'vocabulary.*'],
};

/** In CTranslate2's layout, by the names that faster-whisper gives them. */
export const WHISPER_MODELS = {
  tiny: {
    ...WHISPER,
    repository: 'Systran/faster-whisper-tiny',
    revision: 'd90ca5fe260221311c53c58e660288d3deb8d356',
    sizeBytes: 78_000_000,
    sha256: { 'model.bin': 'dcb76c6586fc06cbdac6dd21f14cfd129cc4cdd9dce19bf4ffa62e59cbe6e6d1' },
  },
  small: {
    ...WHISPER,
    repository: 'Systran/faster-whisper-small',
    revision: '536b0662742c02347bc0e980a01041f333bce120',
    sizeBytes: 486_000_000,
    sha256: { 'model.bin': '3e305921506d8872816023e4c273e75d2419fb89b24da97b4fe7bce14170d671' },
  },
  medium: {
    ...WHISPER,
    repository: 'Systran/faster-whisper-medium',
    revision: '08e178d48790749d25932bbc082711ddcfdfbc4f',
    sizeBytes: 1_531_000_000,
    sha256: { 'model.bin': '9b45e1009dcc4ab601eff815b61d80e60ce3fd8c74c1a14f4a282258286b51ae' },
  },
  'large-v2': {
    ...WHISPER,
    repository: 'Systran/faster-whisper-large-v2',
    revision: 'f0fe81560cb8b68660e564f55dd99207059c092e',
    sizeBytes: 3_090_000_000,
    sha256: {},
  },
  'large-v3': {
    ...WHISPER,
    repository: 'Systran/faster-whisper-large-v3',
    revision: 'edaa852ec7e145841d8ffdb056a99866b5f0a478',
    sizeBytes: 3_091_000_000,
    sha256: { 'model.bin': '69f74147e3334731bc3a76048724833325d2ec74642fb52620eda87352e3d4f1' },
  },
  'distil-large-v3': {
    ...WHISPER,
    repository: 'Systran/faster-distil-whisper-large-v3',
    revision: 'c3058b475261292e64a0412df1d2681c06260fab',
    sizeBytes: 1_517_000_000,
    sha256: { 'model.bin': 'b79368e19b6623813609431a6e5ee309a71506701ebc49fd7820e692dec7c5f5' },
  },
  'large-v3-turbo': {
    ...WHISPER,
    // Once mobiuslabsgmbh/…; the hub redirects from there.
    repository: 'dropbox-dash/faster-whisper-large-v3-turbo',
    revision: '0a363e9161cbc7ed1431c9597a8ceaf0c4f78fcf',
    sizeBytes: 1_622_000_000,
    sha256: { 'model.bin': 'e76620f83d5f5b69efd3d87e3dc180c1bd21df9fbebacfd4335e5e1efcc018da' },
  },
};

const ALIGNMENT = {
  license: 'Apache-2.0',
  files: [
    'config.json',
    'preprocessor_config.json',
    'special_tokens_map.json',
    'tokenizer_config.json',
    'vocab.json',
  ],
};
const XLSR = { ...ALIGNMENT, files: [...ALIGNMENT.files, 'pytorch_model.bin'], sizeBytes: 1_270_000_000 };

/**
 * wav2vec2 in the Hugging Face layout, by language. English, Japanese, Polish, Portuguese and Chinese are what
 * WhisperX takes by default. For German, Spanish and French it takes weights that are not for commercial use; these are free.
 */
export const ALIGNMENT_MODELS = {
  de: {
    ...XLSR,
    repository: 'jonatasgrosman/wav2vec2-large-xlsr-53-german',
    revision: '4b8a02957378d0f2da2ef74091156b032c485a89',
    sha256: {},
  },
  en: {
    ...ALIGNMENT,
    files: [...ALIGNMENT.files, 'model.safetensors'],
    repository: 'facebook/wav2vec2-base-960h',
    revision: '22aad52d435eb6dbaf354bdad9b0da84ce7d6156',
    sizeBytes: 378_000_000,
    sha256: { 'model.safetensors': '8aa76ab2243c81747a1f832954586bc566090c83a0ac167df6f31f0fa917d74a' },
  },
  es: {
    ...XLSR,
    repository: 'jonatasgrosman/wav2vec2-large-xlsr-53-spanish',
    revision: '96d7e9b4e4a78af515a3c6d3cee7c0826045d276',
    sha256: {},
  },
  fr: {
    ...XLSR,
    repository: 'jonatasgrosman/wav2vec2-large-xlsr-53-french',
    revision: '7c79e105a6525d38e1e69f640b974b4a679723cc',
    sha256: {},
  },
  ja: {
    ...XLSR,
    repository: 'jonatasgrosman/wav2vec2-large-xlsr-53-japanese',
    revision: 'cf031e020336460d15a417eba710bbc5bb43be9a',
    sha256: { 'pytorch_model.bin': '4f6821dcd79770fcd4c11487c4ee5c040b3a7e1863425224014ba5ea8fbc1b67' },
  },
  pl: {
    ...XLSR,
    repository: 'jonatasgrosman/wav2vec2-large-xlsr-53-polish',
    revision: '6b1cea36bd8bc5f65ec8081667cd9c0207d51970',
    sha256: {},
  },
  pt: {
    ...XLSR,
    repository: 'jonatasgrosman/wav2vec2-large-xlsr-53-portuguese',
    revision: '634ac655299bcdc46c83bc01da9bab52d2987e4f',
    sha256: { 'pytorch_model.bin': 'c244caf8395a0c333bdc877e7b62ce5efea12ad8cfec0851c0fe6efb844b834e' },
  },
  zh: {
    ...XLSR,
    repository: 'jonatasgrosman/wav2vec2-large-xlsr-53-chinese-zh-cn',
    revision: '99ccb2737be22b8bb50dcfcc39ad4d567fb90cfd',
    sha256: {},
  },
};

/** What WhisperX takes by default. The older pipeline 3.1 names further repositories and so needs a hub. */
export const DIARIZATION_MODEL = {
  license: 'CC-BY-4.0',
  repository: 'pyannote/speaker-diarization-community-1',
  revision: '3533c8cf8e369892e6b79ff1bf80f7b0286a54ee',
  isGated: true,
  sizeBytes: 33_000_000,
  files: [
    'config.yaml',
    'embedding/pytorch_model.bin',
    'plda/plda.npz',
    'plda/xvec_transform.npz',
    'segmentation/pytorch_model.bin',
  ],
  sha256: {
    'config.yaml': '5ce2bfa9a938dc132cec1172592d65173cbb8f444ea1e4133f10f9391de155be',
    'embedding/pytorch_model.bin': '6f10ff60898a1d185fa22e1d11e0bfa8a92efec811f11bca48cb8cafebefd929',
    'plda/plda.npz': '9b77bcd840692710dd3496f62ecfeed8d8e5f002fd991b785079b244eab7d255',
    'plda/xvec_transform.npz': '325f1ce8e48f7e55e9c8aa47e05d2766b7c48c4b25b8de8dd751e7a4cc5fbe8f',
    'segmentation/pytorch_model.bin': '7ad24338d844fb95985486eb1a464e32d229f6d7a03c9abe60f978bacf3f816e',
  },
};
