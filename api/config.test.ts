import { describe, expect, test } from '@jest/globals';
import { readApiConfig } from './config.ts';
import { ownerOfKey } from './http/api-keys.ts';

describe('the environment of the API', () => {
  test('may be empty: then it listens on loopback only, without keys', () => {
    expect(readApiConfig({})).toMatchObject({
      port: 8080,
      host: '127.0.0.1',
      keys: [],
      maxUploadBytes: 20 * 2 ** 30,
      publicUrl: undefined,
    });
    expect(readApiConfig({}).urlSigningKey).not.toBe(readApiConfig({}).urlSigningKey);
  });

  test('needs keys to listen anywhere else', () => {
    for (const HOST of ['0.0.0.0', '::', '10.0.0.1', 'transcripts.example.com']) {
      expect(() => readApiConfig({ HOST })).toThrow(/^Listening on .+ set API_KEYS, or HOST=127\.0\.0\.1\.$/);
      expect(readApiConfig({ HOST, API_KEYS: 'a-key' }).host).toBe(HOST);
    }
    for (const HOST of ['localhost', '::1', '127.0.0.2']) expect(readApiConfig({ HOST }).keys).toEqual([]);
  });

  test('names everything that is wrong with it at once', () => {
    const read = () =>
      readApiConfig({ PORT: '80a', MAX_UPLOAD_BYTES: '-1', PUBLIC_URL: 'ftp://x', API_KEYS: 'a,b' });
    for (const name of ['PORT', 'MAX_UPLOAD_BYTES', 'PUBLIC_URL', 'API_KEYS']) expect(read).toThrow(name);
  });

  test('gives keys names, and never repeats a key in a message', () => {
    const { keys } = readApiConfig({ API_KEYS: 'ann:one, ann:two,bob:three:3' });
    expect(['one', 'two', 'three:3', 'ann:one', ''].map((key) => ownerOfKey(keys, key))).toEqual([
      'ann',
      'ann',
      'bob',
      undefined,
      undefined,
    ]);
    expect(JSON.stringify(keys)).not.toContain('three');
    const bare = readApiConfig({ API_KEYS: 'secret' }).keys;
    expect(ownerOfKey(bare, 'secret')).toBe('default');
    try {
      readApiConfig({ API_KEYS: 'Not A Name:s3cret' });
    } catch (error) {
      expect((error as Error).message).toMatch(/API_KEYS: the name of key 1/);
      expect((error as Error).message).not.toContain('s3cret');
    }
  });
});
