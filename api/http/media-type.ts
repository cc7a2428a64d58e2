import { mediaTypeOfName, UNKNOWN_TYPE } from '../../core/media-types.ts';

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

/** Whether a browser may be given the media under its own type. Anything else could be a page that runs in our name. */
export function isPlayable(contentType: string): boolean {
  return /^(audio|video)\/[a-z0-9.+-]+$/.test(contentType) || contentType === 'application/ogg';
}
