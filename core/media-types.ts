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

/** Kinds of files that surely hold no sound. What is not listed is tried: only decoding can tell. */
const NOT_MEDIA = [
  /^(text|image|font|model|message|multipart|chemical)\//,
  /^application\/(json|pdf|zip|gzip|xml|javascript|wasm|rtf|msword|java-archive|sql|yaml|graphql|toml)$/,
  /^application\/(x-)?(tar|gzip|bzip2?|7z-compressed|rar(-compressed)?|zip-compressed|xz|sh|httpd-php|javascript|www-form-urlencoded|msdownload|yaml|sqlite3|iso9660-image)$/,
  /^application\/vnd\.(openxmlformats|oasis\.opendocument|ms-(excel|powerpoint|word)|rar)/,
  /^application\/[^;]*\+(json|xml|zip|yaml)$/,
];

/** Names of text files, for a part whose type we only guess to be text. */
const TEXT_NAME = /\.(txt|text|log|md|csv|tsv|srt|vtt|json|xml|html?|css|js|ts|py|ya?ml|ini|conf|sh)$/i;

/**
 * The type to keep of an uploaded part, or nothing when it is clearly not media. A part without a type is read as
 * text/plain by the parser, and many clients send none or say that they do not know: then the name decides.
 */
export function mediaType(contentType: string, name: string): string | undefined {
  const type = contentType.trim().toLowerCase();
  if (type === 'text/plain' && TEXT_NAME.test(name)) return undefined;
  if (type === '' || type === 'text/plain' || type === UNKNOWN_TYPE) return mediaTypeOfName(name);
  return NOT_MEDIA.some((pattern) => pattern.test(type)) ? undefined : type;
}
