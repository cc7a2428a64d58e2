import {
  createHash,
  createPrivateKey,
  createPublicKey,
  generateKeyPairSync,
  type KeyObject,
  sign,
} from 'node:crypto';

export const GOOGLE_ISSUER = 'https://accounts.google.com';
const LIFETIME_S = 3_600;

/** Signs identity tokens as Google does for a service account, with a key of its own. */
export class TokenIssuer {
  readonly keyId: string;
  readonly privateKeyPem: string;
  readonly #privateKey: KeyObject;
  readonly #publicKey: KeyObject;

  constructor(privateKeyPem: string = newPrivateKeyPem()) {
    this.privateKeyPem = privateKeyPem;
    this.#privateKey = createPrivateKey(privateKeyPem);
    this.#publicKey = createPublicKey(this.#privateKey);
    this.keyId = createHash('sha1')
      .update(this.#publicKey.export({ type: 'spki', format: 'der' }))
      .digest('hex');
  }

  /** `changes` replaces claims, for tokens that are to be refused; a claim set to undefined is left out. */
  issue(
    { email, audience }: { email: string; audience: string },
    changes: Record<string, unknown> = {},
  ): string {
    const nowS = Math.floor(Date.now() / 1_000);
    const subject = BigInt(`0x${createHash('sha1').update(email).digest('hex').slice(0, 16)}`).toString();
    return this.sign({
      aud: audience,
      azp: subject,
      email,
      email_verified: true,
      exp: nowS + LIFETIME_S,
      iat: nowS,
      iss: GOOGLE_ISSUER,
      sub: subject,
      ...changes,
    });
  }

  sign(claims: object, header: object = { alg: 'RS256', kid: this.keyId, typ: 'JWT' }): string {
    const signed = `${encode(header)}.${encode(claims)}`;
    return `${signed}.${sign('RSA-SHA256', Buffer.from(signed), this.#privateKey).toString('base64url')}`;
  }

  /** The form of https://www.googleapis.com/oauth2/v1/certs, which google-auth-library reads on Node. */
  pemCerts(): Record<string, string> {
    return { [this.keyId]: this.#publicKey.export({ type: 'spki', format: 'pem' }).toString() };
  }

  /** The form of https://www.googleapis.com/oauth2/v3/certs */
  jwks(): object {
    const key = this.#publicKey.export({ format: 'jwk' });
    return { keys: [{ ...key, kid: this.keyId, alg: 'RS256', use: 'sig' }] };
  }
}

function encode(part: object): string {
  return Buffer.from(JSON.stringify(part)).toString('base64url');
}

function newPrivateKeyPem(): string {
  const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2_048 });
  return privateKey.export({ type: 'pkcs8', format: 'pem' }).toString();
}
