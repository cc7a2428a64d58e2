/** Set-up cannot go on. The message is a sentence or two for the person who typed the command, and says what to do next. */
export class SetupFailure extends Error {}

const FULL = /ENOSPC|EDQUOT|No space left on device|Disk quota exceeded/i;
const FORBIDDEN = /\b(EACCES|EPERM|EROFS)\b|Permission denied|Read-only file system/i;
const UNREACHABLE =
  /\b(ENOTFOUND|EAI_AGAIN|ECONNREFUSED|ECONNRESET|ETIMEDOUT|ENETUNREACH|EHOSTUNREACH|EIDLETIMEOUT|ERR_SOCKET_TIMEOUT)\b|Temporary failure in name resolution|Name or service not known|nodename nor servname|Failed to establish a new connection|Max retries exceeded|Connection (refused|reset|aborted|to .* timed out)|Network is unreachable|Read timed out|ProxyError|NameResolutionError|NewConnectionError|ConnectTimeoutError/i;
const UNTRUSTED = /CERTIFICATE_VERIFY_FAILED|SELF_SIGNED_CERT|UNABLE_TO_(GET_ISSUER|VERIFY)/i;
const CHANGED = /DO NOT MATCH THE HASHES|EINTEGRITY/;
const MISSING = /No matching distribution found for ([^\s(]+)/;

/** Whether a tool that printed `output` could not reach the network. */
export function isUnreachable(/** @type {string} */ output) {
  return UNREACHABLE.test(output);
}

/**
 * Why a tool failed, from what it printed. The order matters: pip reports an unreachable source as a package that it
 * cannot find, and npm a full disk among many other lines.
 * @param {string} step what was being done, such as "installing the Python packages"
 * @param {string} output
 * @param {string} root
 */
export function explain(step, output, root) {
  if (FULL.test(output)) {
    return `The disk is full (${step}): set-up needs about 3 GB, with CUDA 10 GB, in ${root}. Free some space and run the command again.`;
  }
  if (UNTRUSTED.test(output)) {
    return `The network's certificate is not trusted (${step}). Behind a proxy that inspects traffic, give npm its certificate as cafile and pip as cert, and run the command again.`;
  }
  if (CHANGED.test(output)) {
    return `A downloaded package is not the one that the lock file names (${step}). Check the configured package sources and run the command again.`;
  }
  if (UNREACHABLE.test(output)) {
    return `The network cannot be reached (${step}). Check the connection, or the proxy that npm and pip are configured with, and run the command again.`;
  }
  const missing = MISSING.exec(output)?.[1];
  if (missing !== undefined) {
    return `pip's package sources do not have ${missing} for this Python and machine. Try another Python from 3.10 to 3.13 (PYTHON=/path/to/python), or other sources.`;
  }
  if (FORBIDDEN.test(output)) {
    return `A file may not be written (${step}). Make ${root} writable for this user and run the command again.`;
  }
  return `${capitalized(step)} failed: ${reason(output)}. Running the command again repairs a half-made installation.`;
}

/** The line of a tool's output that most probably says why. */
function reason(/** @type {string} */ output) {
  const lines = output
    .split(/\r?\n/)
    .map((line) => line.trim())
    .filter((line) => line !== '');
  const line = lines.findLast((text) => /error/i.test(text)) ?? lines.at(-1) ?? 'it printed nothing';
  return line.slice(0, 300).replace(/\.$/, '');
}

function capitalized(/** @type {string} */ text) {
  return text.charAt(0).toUpperCase() + text.slice(1);
}
