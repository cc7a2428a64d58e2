/** File extensions of the containers that ingest opens, and how players know them. */
const TYPES: Readonly<Record<string, string>> = {
  '3g2': 'video/3gpp2',
  '3gp': 'video/3gpp',
  aac: 'audio/aac',
  ac3: 'audio/ac3',
  aif: 'audio/aiff',
  aifc: 'audio/aiff',
  aiff: 'audio/aiff',
  amr: 'audio/amr',
  ape: 'audio/x-ape',
  asf: 'video/x-ms-asf',
  au: 'audio/basic',
  avi: 'video/x-msvideo',
  caf: 'audio/x-caf',
  dts: 'audio/vnd.dts',
  eac3: 'audio/eac3',
  flac: 'audio/flac',
  flv: 'video/x-flv',
  m2ts: 'video/mp2t',
  m4a: 'audio/mp4',
  m4b: 'audio/mp4',
  m4v: 'video/mp4',
  mka: 'audio/x-matroska',
  mkv: 'video/x-matroska',
  mov: 'video/quicktime',
  mp2: 'audio/mpeg',
  mp3: 'audio/mpeg',
  mp4: 'video/mp4',
  mpc: 'audio/x-musepack',
  mpeg: 'video/mpeg',
  mpg: 'video/mpeg',
  mts: 'video/mp2t',
  oga: 'audio/ogg',
  ogg: 'audio/ogg',
  ogv: 'video/ogg',
  opus: 'audio/ogg',
  ts: 'video/mp2t',
  tta: 'audio/x-tta',
  voc: 'audio/x-voc',
  w64: 'audio/x-w64',
  wav: 'audio/wav',
  weba: 'audio/webm',
  webm: 'video/webm',
  wma: 'audio/x-ms-wma',
  wmv: 'video/x-ms-wmv',
  wv: 'audio/x-wavpack',
};

export const UNKNOWN_TYPE = 'application/octet-stream';

/** What the name of a file says it is: a claim, good enough to choose a player by. Only decoding can tell. */
export function mediaTypeOfName(filename: string): string {
  const extension = /\.([a-z0-9]{2,4})$/i.exec(filename)?.[1]?.toLowerCase() ?? '';
  return Object.hasOwn(TYPES, extension) ? (TYPES[extension] ?? UNKNOWN_TYPE) : UNKNOWN_TYPE;
}
