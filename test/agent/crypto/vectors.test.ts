// The JOSE formats against published vectors: a small set of this repository, and the larger sets (RFC 7520,
// Wycheproof) where they stand beside the checkout. A file without a case fails.
import assert from 'node:assert/strict';
import {
  createHmac,
  createSecretKey,
  generateKeyPairSync,
  type JsonWebKey,
  timingSafeEqual,
  verify,
} from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { aesKeyUnwrap, aesKeyWrap } from '../../../agent/crypto/aes-key-wrap.ts';
import {
  CONTENT_ENCRYPTIONS,
  type ContentEncryption,
  decryptContent,
} from '../../../agent/crypto/content-encryption.ts';
import { concatKdf } from '../../../agent/crypto/ecdh-es.ts';
import { signEd25519 } from '../../../agent/crypto/ed25519.ts';
import { type CompactJwe, parseCompactJwe } from '../../../agent/crypto/jwe.ts';
import { jwsSigningInput, parseCompactJws } from '../../../agent/crypto/jws.ts';
import { parsePublicJwk } from '../../../agent/crypto/public-jwk.ts';
import { decrypt } from '../../../agent/operations/decrypt.ts';
import { decryptDataKey } from '../../../agent/operations/decrypt-data-key.ts';
import { verifyWith } from '../../../agent/operations/verify-with.ts';
import { callOf, rejectsWith } from '../../contract/token.ts';
import { FakeToken } from '../../fakes/token.ts';
import { aCall, CryptoWorld } from '../operations/crypto-world.ts';

const OWN = join(import.meta.dirname, '../../vectors/jose');
const SHARED = join(import.meta.dirname, '../../../../shared/vectors');
const none = Buffer.alloc(0);
const hex = (text: string): Buffer => Buffer.from(text, 'hex');

/** The cases of a file, never none. */
const load = <T>(path: string, select: (file: never) => readonly T[]): readonly T[] => {
  const cases = select(JSON.parse(readFileSync(path, 'utf8')) as never);
  assert.ok(cases.length > 0, `${path} holds no case`);
  return cases;
};
const own = <T>(section: string): readonly T[] =>
  load(join(OWN, 'primitives.json'), (file: Record<string, readonly T[]>) => file[section] ?? []);

/** A set beside the checkout; its absence is seen as a skip. */
const shared = (file: string) => ({
  path: join(SHARED, file),
  skip: existsSync(join(SHARED, file)) ? false : `no ${file} beside the checkout`,
});

interface JwsCase {
  source: string;
  jwk: JsonWebKey;
  payload: string;
  compact: string;
}
interface JweCase {
  source: string;
  jwk: JsonWebKey;
  plaintext: string;
  compact: string;
}
type CookbookFile = {
  title: string;
  input: { key: JsonWebKey; payload: string; plaintext: string };
  generated: { cek: string };
  output: { compact: string };
};

const checkJws = async ({ jwk, payload, compact }: JwsCase): Promise<void> => {
  const { ports } = new CryptoWorld(new FakeToken());
  const { kty, n, e, crv, x, y, use } = jwk;
  const publicJwk = JSON.stringify({ kty, n, e, crv, x, y, use });
  const [header, body, signature] = compact.split('.') as [string, string, string];
  const check = async (jws: string) =>
    (await verifyWith(ports, aCall(), { publicJwk, signature: { jws }, input: undefined })).value;
  const { valid, payload: carried } = await check(compact);
  assert.ok(valid && carried?.equals(Buffer.from(payload)));
  assert.equal((await check(`${header}.AAAA${body}.${signature}`)).valid, false);
};

const checkJwe = async (keyId: string, { jwk, plaintext, compact }: JweCase): Promise<void> => {
  const token = new FakeToken();
  const world = new CryptoWorld(token);
  const made = token.import('AES-256', 'encrypt', jwk);
  await world.add({ keyId, algorithm: 'AES-256', purpose: 'encrypt', made });
  const { value } = await decrypt(world.ports, aCall(), { jwe: compact, key: keyId, associatedData: none });
  assert.equal(value.plaintext.toString(), plaintext);
};

describe('published vectors of this repository', () => {
  for (const row of load<JwsCase>(join(OWN, 'jws.json'), (file) => file)) {
    test(`JWS of ${row.source} verifies`, () => checkJws(row));
  }
  for (const row of load<JweCase>(join(OWN, 'jwe.json'), (file) => file)) {
    test(`JWE of ${row.source} decrypts`, () => checkJwe('vector', row));
  }

  test('Concat KDF', () => {
    for (const row of own<Record<'z' | 'algorithmId' | 'apu' | 'apv' | 'key', string> & { bits: number }>(
      'concatKdf',
    )) {
      const [z, apu, apv] = [row.z, row.apu, row.apv].map((text) => Buffer.from(text, 'base64url')) as [
        Buffer,
        Buffer,
        Buffer,
      ];
      const key = concatKdf(z, { algorithmId: row.algorithmId, apu, apv, bits: row.bits });
      assert.equal(key.toString('base64url'), row.key);
    }
  });

  test('AES key wrap', () => {
    for (const row of own<Record<'kek' | 'key' | 'wrapped', string>>('aesKeyWrap')) {
      assert.equal(aesKeyWrap(hex(row.kek), hex(row.key)).toString('hex'), row.wrapped);
      assert.equal(aesKeyUnwrap(hex(row.kek), hex(row.wrapped))?.toString('hex'), row.key);
    }
  });

  test('content encryption with AES-CBC and HMAC', () => {
    type Row = Record<'enc' | 'cek' | 'iv' | 'aad' | 'plaintext' | 'ciphertext' | 'tag', string>;
    for (const row of own<Row>('contentEncryption')) {
      const enc = CONTENT_ENCRYPTIONS.get(row.enc) as ContentEncryption;
      const sealed = { iv: hex(row.iv), ciphertext: hex(row.ciphertext), tag: hex(row.tag) };
      assert.equal(decryptContent(enc, hex(row.cek), row.aad, sealed)?.toString(), row.plaintext);
      const truncated = { ...sealed, tag: Buffer.concat([sealed.tag.subarray(1), Buffer.alloc(1)]) };
      assert.equal(decryptContent(enc, hex(row.cek), row.aad, truncated), undefined);
    }
  });

  test('JWK thumbprints', () => {
    for (const row of own<{ jwk: JsonWebKey; thumbprint: string }>('thumbprint')) {
      assert.equal(parsePublicJwk(JSON.stringify(row.jwk)).thumbprint, row.thumbprint);
    }
  });

  test('the signing input of an unencoded payload', () => {
    for (const row of own<Record<'k' | 'payload' | 'compact', string>>('unencodedJws')) {
      const jws = parseCompactJws(row.compact);
      assert.equal(jws.encoded, false);
      const input = jwsSigningInput(jws.protectedSegment, Buffer.from(row.payload), jws.encoded);
      const key = createSecretKey(Buffer.from(row.k, 'base64url'));
      assert.ok(timingSafeEqual(createHmac('sha256', key).update(input).digest(), jws.signature));
    }
  });

  test('Ed25519 from its seed', () => {
    for (const row of own<Record<'seed' | 'message' | 'signature', string>>('ed25519')) {
      assert.equal(signEd25519(hex(row.seed), hex(row.message)).toString('hex'), row.signature);
    }
  });
});

describe('JSON serialization', () => {
  interface GeneralCase {
    source: string;
    keys: { algorithm: string; jwk: JsonWebKey }[];
    plaintext: string;
    json: Record<string, unknown>;
  }
  const cases = load(join(OWN, 'jwe-general.json'), (file: GeneralCase[]) => file);
  for (const { source, keys, plaintext, json } of cases) {
    for (const { algorithm, jwk } of keys) {
      test(`${source}: opens for its ${algorithm} recipient, and not when changed`, async () => {
        const token = new FakeToken();
        const world = new CryptoWorld(token);
        await world.add({ keyId: 'k', algorithm, purpose: 'encrypt', made: token.import(algorithm, 'encrypt', jwk) });
        const open = async (value: object): Promise<Buffer> => {
          const input = { jwe: JSON.stringify(value), key: 'k', associatedData: none };
          return (await decrypt(world.ports, aCall(), input)).value.plaintext;
        };
        assert.equal((await open(json)).toString(), plaintext);
        await assert.rejects(open({ ...json, aad: 'AA' }), { code: 'INVALID_CIPHERTEXT' });
      });
    }
  }
});

describe('our own', () => {
  interface OwnCase {
    about: string;
    jose: string;
    associatedData: string;
    plaintext: string;
  }
  interface OwnFile {
    key: JsonWebKey;
    dataKeys: OwnCase[];
    messages: OwnCase[];
  }
  const file = JSON.parse(readFileSync(join(OWN, 'mortise.json'), 'utf8')) as OwnFile;
  const worldOf = async () => {
    const token = new FakeToken();
    const world = new CryptoWorld(token);
    const made = token.import('AES-256', 'encrypt', file.key);
    await world.add({ keyId: 'vectors', algorithm: 'AES-256', purpose: 'encrypt', made });
    return world;
  };
  for (const [kind, cases] of [
    ['messages', load(join(OWN, 'mortise.json'), (own: OwnFile) => own.messages)],
    ['dataKeys', load(join(OWN, 'mortise.json'), (own: OwnFile) => own.dataKeys)],
  ] as const) {
    for (const row of cases) {
      test(`${row.about} opens, with its associated data alone`, async () => {
        const { ports } = await worldOf();
        const open = async (associatedData: Buffer): Promise<Buffer> =>
          kind === 'messages'
            ? (await decrypt(ports, aCall(), { jwe: row.jose, key: '', associatedData })).value.plaintext
            : (await decryptDataKey(ports, aCall(), { wrappedDataKey: row.jose, key: '', associatedData })).value
                .dataKey;
        assert.equal((await open(hex(row.associatedData))).toString('hex'), row.plaintext);
        await assert.rejects(open(Buffer.from('other')), { code: 'INVALID_CIPHERTEXT' });
      });
    }
  }

  test('two of the messages share a content key, and each has an iv of its own', () => {
    const shared = file.messages.filter((row) => row.about.includes('shared')).map((row) => parseCompactJwe(row.jose));
    assert.equal(shared.length, 2);
    const [one, two] = shared as [CompactJwe, CompactJwe];
    assert.ok(one.encryptedKey.equals(two.encryptedKey) && !one.iv.equals(two.iv));
  });
});

describe('RFC 7520 beside the checkout', () => {
  for (const name of ['4_2.rsa-pss_signature', '4_3.ecdsa_signature']) {
    const { path, skip } = shared(`cookbook/${name}.json`);
    test(`${name} verifies`, { skip }, async () => {
      const file = JSON.parse(readFileSync(path, 'utf8')) as CookbookFile;
      await checkJws({ source: name, jwk: file.input.key, payload: file.input.payload, compact: file.output.compact });
    });
  }

  // Key management that no key of ours has: the formats and the content encryption still apply.
  for (const name of [
    '5_2.key_encryption_using_rsa-oaep_with_aes-gcm',
    '5_4.key_agreement_with_key_wrapping_using_ecdh-es_and_aes-keywrap_with_aes-gcm',
    '5_8.key_wrap_using_aes-keywrap_with_aes-gcm',
  ]) {
    const { path, skip } = shared(`cookbook/${name}.json`);
    test(`${name} parses, and its content opens with its CEK`, { skip }, () => {
      const file = JSON.parse(readFileSync(path, 'utf8')) as CookbookFile;
      const jwe = parseCompactJwe(file.output.compact);
      const cek = Buffer.from(file.generated.cek, 'base64url');
      assert.equal(decryptContent(jwe.enc, cek, jwe.protectedSegment, jwe)?.toString(), file.input.plaintext);
    });
  }

  const wrap = shared('cookbook/5_8.key_wrap_using_aes-keywrap_with_aes-gcm.json');
  test('5.8: the CEK unwraps under its key', { skip: wrap.skip }, () => {
    const file = JSON.parse(readFileSync(wrap.path, 'utf8')) as CookbookFile;
    const kek = Buffer.from(file.input.key['k'] as string, 'base64url');
    const cek = aesKeyUnwrap(kek, parseCompactJwe(file.output.compact).encryptedKey);
    assert.equal(cek?.toString('base64url'), file.generated.cek);
  });
});

describe('Wycheproof beside the checkout', () => {
  type Case = { tcId: number; key: string; msg: string; ct: string; label?: string; result: string; flags: string[] };
  type Group = { tests: Case[]; privateKeyJwk: JsonWebKey };

  const keyWrap = shared('wycheproof/aes_wrap_test.json');
  test('AES key wrap: unwraps what is valid and nothing else', { skip: keyWrap.skip }, () => {
    const cases = load(keyWrap.path, (file: { testGroups: Group[] }) =>
      file.testGroups.flatMap((group) => group.tests),
    );
    let accepted = 0;
    for (const row of cases) {
      const key = aesKeyUnwrap(hex(row.key), hex(row.ct));
      // RFC 3394 wraps two blocks or more: keys of one block ("acceptable") are refused.
      const isValid = row.result === 'valid';
      assert.equal(key?.toString('hex'), isValid ? row.msg : undefined, `case ${row.tcId}`);
      if (isValid) accepted += 1;
    }
    assert.ok(accepted > 0 && accepted < cases.length);
  });

  const oaep = shared('wycheproof/rsa_oaep_2048_sha256_mgf1sha256_test.json');
  test('RSA-OAEP-256: the fake token opens what is valid and nothing else', { skip: oaep.skip }, async () => {
    const groups = load(oaep.path, (file: { testGroups: Group[] }) => file.testGroups);
    const token = new FakeToken();
    let seen = 0;
    for (const group of groups) {
      const { tokenId } = token.import('RSA-2048', 'encrypt', group.privateKeyJwk);
      for (const row of group.tests) {
        seen += 1;
        const opening = token.oaepDecrypt(tokenId, hex(row.ct), callOf());
        // JOSE uses the empty label only.
        if (row.result === 'valid' && !row.label)
          assert.equal((await opening).toString('hex'), row.msg, `case ${row.tcId}`);
        else await rejectsWith(opening, 'INVALID_CIPHERTEXT');
      }
    }
    assert.ok(seen > 0);
  });
});

test('node:crypto verifies what a seed signs, and only seeds of 32 bytes sign', () => {
  const { privateKey, publicKey } = generateKeyPairSync('ed25519');
  const seed = Buffer.from(privateKey.export({ format: 'jwk' }).d as string, 'base64url');
  const message = Buffer.from('m');
  assert.ok(verify(null, message, publicKey, signEd25519(seed, message)));
  assert.throws(() => signEd25519(seed.subarray(1), message), RangeError);
});
