// A caller's JWK: what is accepted, what is refused and why, and fuzz.
import assert from 'node:assert/strict';
import { createPublicKey, generateKeyPairSync, type JsonWebKey, randomBytes } from 'node:crypto';
import { test } from 'node:test';
import fc from 'fast-check';
import { calculateJwkThumbprint, type JWK } from 'jose';
import { parsePublicJwk, requireUse } from '../../../agent/crypto/public-jwk.ts';
import { PublicKeyCache } from '../../../agent/crypto/software-verify.ts';
import { AgentError, type Code } from '../../../agent/errors.ts';

const pairOf = (crv: string) => generateKeyPairSync('ec', { namedCurve: crv });
const RSA = generateKeyPairSync('rsa', { modulusLength: 2048 });
const PUBLIC: Readonly<Record<string, JsonWebKey>> = {
  'RSA-2048': RSA.publicKey.export({ format: 'jwk' }),
  'EC-P256': pairOf('P-256').publicKey.export({ format: 'jwk' }),
  'EC-P384': pairOf('P-384').publicKey.export({ format: 'jwk' }),
  'EC-P521': pairOf('P-521').publicKey.export({ format: 'jwk' }),
  Ed25519: generateKeyPairSync('ed25519').publicKey.export({ format: 'jwk' }),
};
const parse = (jwk: unknown) => parsePublicJwk(typeof jwk === 'string' ? jwk : JSON.stringify(jwk));
const refused = (jwk: unknown, about: RegExp, code: Code = 'INVALID_REQUEST'): void =>
  assert.throws(
    () => parse(jwk),
    (thrown: unknown) => {
      assert.ok(thrown instanceof AgentError, String(thrown));
      assert.equal(thrown.code, code, thrown.message);
      assert.match(thrown.message, about);
      return true;
    },
  );
/** An RSA JWK with a modulus of this many bits; odd, otherwise random. */
const rsaOf = (bits: number, e = 'AQAB'): JsonWebKey => {
  const n = randomBytes(Math.ceil(bits / 8));
  const top = (bits - 1) % 8;
  n[0] = ((n[0] as number) & ((1 << (top + 1)) - 1)) | (1 << top);
  n[n.length - 1] = (n.at(-1) as number) | 1;
  return { kty: 'RSA', n: n.toString('base64url'), e };
};

test('accepts every kind of key, and agrees with jose on its thumbprint', async () => {
  for (const [algorithm, jwk] of Object.entries(PUBLIC)) {
    const parsed = parse({ ...jwk, kid: 'k', x5c: ['ignored'] });
    assert.equal(parsed.algorithm, algorithm);
    assert.equal(parsed.thumbprint, await calculateJwkThumbprint(jwk as JWK));
    assert.equal(parsed.kid, 'k');
    assert.ok(parsed.key.equals(createPublicKey({ key: jwk, format: 'jwk' })));
    assert.ok(!('x5c' in parsed.jwk));
  }
});

test('an RSA key counts as the strongest row that its modulus reaches', () => {
  for (const [bits, algorithm] of [
    [2048, 'RSA-2048'],
    [2049, 'RSA-2048'],
    [3071, 'RSA-2048'],
    [3072, 'RSA-3072'],
    [4095, 'RSA-3072'],
    [4096, 'RSA-4096'],
    [8192, 'RSA-4096'],
  ] as const) {
    assert.equal(parse(rsaOf(bits)).algorithm, algorithm, `${bits} bits`);
  }
});

test('short RSA keys and short curves are forbidden by name', () => {
  for (const bits of [512, 1024, 1536, 2047]) refused(rsaOf(bits), /forbidden/, 'ALGORITHM_FORBIDDEN');
  refused({ kty: 'EC', crv: 'P-192', x: 'AA', y: 'AA' }, /forbidden/, 'ALGORITHM_FORBIDDEN');
});

test('odd RSA numbers are refused: too long, even, padded, small or long exponents', () => {
  const { n } = PUBLIC['RSA-2048'] as { n: string };
  refused(rsaOf(8200), /8192 bits/);
  const even = Buffer.from(n, 'base64url');
  even[even.length - 1] = (even.at(-1) as number) & 0xfe;
  refused({ kty: 'RSA', n: even.toString('base64url'), e: 'AQAB' }, /even/);
  const padded = Buffer.concat([Buffer.alloc(1), Buffer.from(n, 'base64url')]).toString('base64url');
  refused({ kty: 'RSA', n: padded, e: 'AQAB' }, /"n"/);
  for (const e of ['AQ', 'Aw', 'AQAA', 'AAEAAQ', '', '_________w8P']) refused({ kty: 'RSA', n, e }, /"e"/);
});

test('a private or secret member of any name is refused, whatever its value', () => {
  for (const name of ['d', 'p', 'q', 'dp', 'dq', 'qi', 'oth', 'k', 'priv']) {
    for (const value of ['AQAB', '', null, 7]) {
      refused({ ...PUBLIC['EC-P256'], [name]: value }, new RegExp(`private member "${name}"`));
    }
  }
  refused({ kty: 'oct', k: 'AAAA' }, /private/);
  refused({ kty: 'oct' }, /"kty"/);
});

test('points off the curve, of another curve, or with coordinates of another length are refused', () => {
  const jwk = PUBLIC['EC-P256'] as { x: string; y: string };
  const long = Buffer.concat([Buffer.alloc(1), Buffer.from(jwk.x, 'base64url')]).toString('base64url');
  for (const change of [
    { y: jwk.x },
    { crv: 'P-384' },
    { crv: 'secp256k1' },
    { crv: 'X25519' },
    { x: long },
    { x: Buffer.alloc(32).toString('base64url'), y: Buffer.alloc(32).toString('base64url') },
    { x: Buffer.alloc(32, 255).toString('base64url') },
    { x: `${jwk.x}=` },
  ]) {
    refused({ ...jwk, kty: 'EC', crv: 'P-256', ...change }, /not a point/);
  }
  refused({ kty: 'OKP', crv: 'Ed448', x: jwk.x }, /Ed25519 or X25519/);
  refused({ kty: 'OKP', crv: 'Ed25519', x: long }, /32 bytes/);
});

test('members of the wrong type are refused', () => {
  const jwk = PUBLIC['EC-P256'];
  for (const change of [
    { kid: 7 },
    { kid: '' },
    { alg: [] },
    { use: {} },
    { x: 1 },
    { kty: ['EC'] },
    { key_ops: 'verify' },
  ]) {
    refused({ ...jwk, ...change }, /is not a/);
  }
  for (const text of ['', '[]', 'null', '{"kty":"EC","kty":"EC"}', '{}']) refused(text, /JSON object|"kty"/);
});

test('use and key_ops bind', () => {
  const jwk = PUBLIC['EC-P256'];
  requireUse(parse(jwk), 'sig', ['verify']);
  requireUse(parse({ ...jwk, use: 'sig', key_ops: ['verify'] }), 'sig', ['verify']);
  for (const change of [{ use: 'enc' }, { key_ops: [] }, { key_ops: ['sign'] }]) {
    assert.throws(() => requireUse(parse({ ...jwk, ...change }), 'sig', ['verify']), { code: 'INVALID_REQUEST' });
  }
});

test('fuzz: any change of a JWK gives a key or an AgentError', () => {
  const names = fc.constantFrom('kty', 'crv', 'x', 'y', 'n', 'e', 'alg', 'use', 'key_ops', 'kid', '__proto__', 'd');
  const value = fc.oneof(
    fc.jsonValue({ maxDepth: 2 }),
    fc.constantFrom('RSA', 'EC', 'OKP', 'P-256', 'P-384', 'Ed25519', 'AQAB'),
    fc.uint8Array({ maxLength: 300 }).map((bytes) => Buffer.from(bytes).toString('base64url')),
  );
  const base = fc.constantFrom(...Object.values(PUBLIC), {});
  fc.assert(
    fc.property(base, fc.dictionary(names, value, { maxKeys: 3 }), (jwk, change) => {
      try {
        assert.ok(parse({ ...jwk, ...change }).thumbprint.length === 43);
      } catch (thrown) {
        assert.ok(thrown instanceof AgentError, String(thrown));
        assert.ok(['INVALID_REQUEST', 'ALGORITHM_FORBIDDEN'].includes(thrown.code));
      }
    }),
    { numRuns: 1500 },
  );
  fc.assert(
    fc.property(fc.string({ maxLength: 200 }), (text) => {
      assert.throws(() => parse(text), AgentError);
    }),
  );
});

test('the cache of public keys gives the same object for the same key, and is bounded', () => {
  const cache = new PublicKeyCache({ limit: 2 });
  const [one, two, three] = ['EC-P256', 'EC-P384', 'Ed25519'].map((name) => PUBLIC[name] as Record<string, string>) as [
    Record<string, string>,
    Record<string, string>,
    Record<string, string>,
  ];
  const first = cache.get(one);
  cache.get(two);
  assert.equal(cache.get({ ...one }), first);
  cache.get(three); // drops two, which was used least recently
  assert.equal(cache.size, 2);
  assert.equal(cache.get(one), first);
  assert.ok(cache.get(two).equals(createPublicKey({ key: two, format: 'jwk' })));
});
