// Signatures of policies: who counts, who does not, and what an attacker with the file can do about it. Cross-checked
// with the jose package and with noble's ML-DSA, so that our own verifier is not its only judge.
import assert from 'node:assert/strict';
import { createPublicKey, generateKeyPairSync, sign as signData } from 'node:crypto';
import { test } from 'node:test';
import { ml_dsa65 } from '@noble/post-quantum/ml-dsa.js';
import fc from 'fast-check';
import { calculateJwkThumbprint, generalVerify, importJWK, type JWK } from 'jose';
import { generateOfficerKeys, type OfficerKeys, officerOf, officerSigner } from '../../proto/documents/officer-keys.ts';
import { PolicyError } from '../../proto/documents/policy-error.ts';
import {
  cosignPolicy,
  judgeSignatures,
  type OfficerSigner,
  POLICY_JWS_LIMIT_BYTES,
  POLICY_JWS_TYPE,
  policyDigest,
  signPolicy,
  verifyPolicy,
} from '../../proto/documents/policy-sign.ts';
import { anchorKeys, TRUST_ANCHOR_SCHEMA, type TrustAnchor, thumbprint } from '../../proto/documents/trust-anchor.ts';
import { bytesOf, platformPolicy, tenantPolicy } from '../support/policy-documents.ts';

const officers = ['alice', 'bob', 'carol'].map((name) =>
  generateOfficerKeys({ name, classical: name === 'bob' ? 'ES256' : 'Ed25519' }),
);
const [alice, bob, carol] = officers as [OfficerKeys, OfficerKeys, OfficerKeys];
const anchorOf = (threshold: number, ...keys: OfficerKeys[]): TrustAnchor => ({
  schema: TRUST_ANCHOR_SCHEMA,
  threshold,
  officers: keys.map(officerOf),
});
const anchor = anchorOf(2, alice, bob, carol);
const payload = bytesOf(platformPolicy());

interface Jws {
  payload: string;
  signatures: { protected: string; signature: string }[];
}

const signed = async (...keys: OfficerKeys[]): Promise<Jws> =>
  JSON.parse((await signPolicy({ payload, signers: keys.map(officerSigner) })).toString());

const refusal = (jws: unknown, trusted = anchor): PolicyError => {
  try {
    verifyPolicy(Buffer.isBuffer(jws) ? jws : bytesOf(jws), trusted);
  } catch (error) {
    assert.ok(error instanceof PolicyError, String(error));
    return error;
  }
  return assert.fail('the policy was accepted');
};

const verdicts = (jws: unknown, trusted = anchor): string[] =>
  judgeSignatures(bytesOf(jws), trusted).signatures.map(({ verdict }) => verdict);

const b64 = (value: unknown): string => bytesOf(value).toString('base64url');
const headerOf = (entry: { protected: string }) => JSON.parse(Buffer.from(entry.protected, 'base64url').toString());

/** Signs with a header of the attacker's choice. */
const forge = (jws: Jws, key: OfficerKeys, half: 0 | 1, header: object): Jws['signatures'][number] => {
  const signer = officerSigner(key).keys[half] as OfficerSigner['keys'][number];
  const entry = b64(header);
  const data = Buffer.from(`${entry}.${jws.payload}`);
  return { protected: entry, signature: (signer.sign(data) as Buffer).toString('base64url') };
};

test('k of n officers with both signatures make a policy, in any order', async () => {
  const jws = await signed(carol, bob);
  const policy = verifyPolicy(bytesOf(jws), anchor);
  assert.deepEqual(policy.officers, ['bob', 'carol']);
  assert.deepEqual(policy.policy, platformPolicy());
  assert.deepEqual(policy.payload, payload);
  assert.equal(policy.digest, policyDigest(payload));
  verifyPolicy(bytesOf({ ...jws, signatures: jws.signatures.toReversed() }), anchor);
});

test('one officer of two is not enough, and the error says who signed', async () => {
  const error = refusal(await signed(alice));
  assert.deepEqual([error.code, error.path], ['SIGNATURE_THRESHOLD', 'signatures']);
  assert.match(error.message, /1 of 2 needed officers.*alice Ed25519 valid; alice ML-DSA-65 valid/);
});

test('an officer whose half is stripped does not count, whichever half it is', async () => {
  const jws = await signed(alice, bob);
  for (const missing of jws.signatures.keys()) {
    const signatures = jws.signatures.filter((_, index) => index !== missing);
    assert.equal(refusal({ ...jws, signatures }).code, 'SIGNATURE_THRESHOLD');
  }
});

test('an officer with one wrong half does not count, whichever half it is', async () => {
  const jws = await signed(alice, bob);
  for (const spoiled of jws.signatures.keys()) {
    const signatures = structuredClone(jws.signatures);
    const entry = signatures[spoiled] as { signature: string };
    const bytes = Buffer.from(entry.signature, 'base64url');
    bytes[7] = (bytes[7] ?? 0) ^ 1;
    entry.signature = bytes.toString('base64url');
    assert.equal(refusal({ ...jws, signatures }).code, 'SIGNATURE_THRESHOLD');
    assert.equal(verdicts({ ...jws, signatures })[spoiled], 'invalid');
  }
});

test('halves of two officers do not make one', async () => {
  const jws = await signed(alice, bob);
  const [aliceClassical, , , bobPostQuantum] = jws.signatures;
  assert.equal(
    refusal({ ...jws, signatures: [aliceClassical, bobPostQuantum] }, anchorOf(1, alice, bob)).code,
    'SIGNATURE_THRESHOLD',
  );
});

test('a signature given twice counts once, so one officer cannot fill the threshold alone', async () => {
  const jws = await signed(alice);
  const again = await signed(alice);
  const signatures = [...jws.signatures, ...jws.signatures, ...again.signatures];
  assert.equal(refusal({ ...jws, signatures }).code, 'SIGNATURE_THRESHOLD');
  assert.deepEqual(verdicts({ ...jws, signatures }), [
    'valid',
    'valid',
    'duplicate',
    'duplicate',
    'duplicate',
    'duplicate',
  ]);
});

test('a wrong signature in front does not spoil the right one behind it', async () => {
  const jws = await signed(alice, bob);
  const wrong = { ...(jws.signatures[0] as object), signature: Buffer.alloc(64, 1).toString('base64url') };
  const signatures = [wrong, ...jws.signatures];
  assert.deepEqual(verifyPolicy(bytesOf({ ...jws, signatures }), anchor).officers, ['alice', 'bob']);
});

test("strangers' signatures do not count and do no harm", async () => {
  const mallory = generateOfficerKeys({ name: 'alice' });
  const eve = generateOfficerKeys({ name: 'bob' });
  const strangers = await signed(mallory, eve);
  assert.equal(refusal(strangers).code, 'SIGNATURE_THRESHOLD');
  assert.deepEqual(verdicts(strangers), Array(4).fill('unknown-key'));
  const jws = await signed(alice, bob);
  verifyPolicy(bytesOf({ ...jws, signatures: [...strangers.signatures, ...jws.signatures] }), anchor);
});

test("signatures moved under another officer's kid do not verify", async () => {
  const jws = await signed(alice, carol);
  const [first, second, third, fourth] = jws.signatures as [
    Jws['signatures'][0],
    Jws['signatures'][0],
    Jws['signatures'][0],
    Jws['signatures'][0],
  ];
  const swapped = [
    { protected: third.protected, signature: first.signature },
    { protected: fourth.protected, signature: second.signature },
    { protected: first.protected, signature: third.signature },
    { protected: second.protected, signature: fourth.signature },
  ];
  assert.equal(refusal({ ...jws, signatures: swapped }).code, 'SIGNATURE_THRESHOLD');
  assert.deepEqual(verdicts({ ...jws, signatures: swapped }), Array(4).fill('invalid'));
});

test('signatures of another payload do not verify', async () => {
  const jws = await signed(alice, bob);
  assert.equal(refusal({ ...jws, payload: b64({ ...platformPolicy(), version: 2 }) }).code, 'SIGNATURE_THRESHOLD');
});

test('a payload is not parsed before its signatures are good', async () => {
  const jws = await signed(alice);
  assert.equal(refusal({ ...jws, payload: b64({ colour: 1 }) }).code, 'SIGNATURE_THRESHOLD');
});

const kidOf = (key: OfficerKeys, half: 0 | 1): string => officerSigner(key).keys[half]?.kid as string;

const HEADERS: [title: string, header: () => object][] = [
  ['the algorithm of the other half', () => ({ alg: 'ML-DSA-65', kid: kidOf(alice, 0), typ: POLICY_JWS_TYPE })],
  ['the algorithm none', () => ({ alg: 'none', kid: kidOf(alice, 0), typ: POLICY_JWS_TYPE })],
  ['HMAC keyed with the public key', () => ({ alg: 'HS256', kid: kidOf(alice, 0), typ: POLICY_JWS_TYPE })],
  ['EdDSA, the deprecated name', () => ({ alg: 'EdDSA', kid: kidOf(alice, 0), typ: POLICY_JWS_TYPE })],
  ['another typ', () => ({ alg: 'Ed25519', kid: kidOf(alice, 0), typ: 'JWT' })],
  ['no typ', () => ({ alg: 'Ed25519', kid: kidOf(alice, 0) })],
  ['a crit header', () => ({ alg: 'Ed25519', kid: kidOf(alice, 0), typ: POLICY_JWS_TYPE, crit: ['exp'], exp: 1 })],
  ['an unencoded payload', () => ({ alg: 'Ed25519', kid: kidOf(alice, 0), typ: POLICY_JWS_TYPE, b64: false })],
  [
    'a key of its own',
    () => ({ alg: 'Ed25519', kid: kidOf(alice, 0), typ: POLICY_JWS_TYPE, jwk: officerOf(alice).keys[0] }),
  ],
];

for (const [title, header] of HEADERS) {
  test(`a signature under a header with ${title} does not count`, async () => {
    const jws = await signed(alice, bob);
    const signatures = [forge(jws, alice, 0, header()), ...jws.signatures.slice(1)];
    assert.equal(verdicts({ ...jws, signatures })[0], 'wrong-header');
    assert.equal(refusal({ ...jws, signatures }).code, 'SIGNATURE_THRESHOLD');
  });
}

test('an ECDSA signature in DER does not count: JOSE has r || s', async () => {
  const jws = await signed(alice, bob);
  const at = jws.signatures.findIndex((entry) => headerOf(entry).alg === 'ES256');
  const entry = jws.signatures[at] as Jws['signatures'][0];
  const data = Buffer.from(`${entry.protected}.${jws.payload}`);
  entry.signature = signData('sha256', data, bob.privateKeys[0] as never).toString('base64url');
  assert.equal(verdicts(jws)[at], 'invalid');
});

const ENVELOPES: [title: string, change: (jws: Jws) => unknown, code: string, path: string][] = [
  [
    'an unprotected header',
    (jws) => ({ ...jws, signatures: [{ ...jws.signatures[0], header: {} }] }),
    'FIELD_UNKNOWN',
    'signatures[0].header',
  ],
  ['flattened syntax', (jws) => ({ payload: jws.payload, ...jws.signatures[0] }), 'FIELD_UNKNOWN', 'protected'],
  ['no signatures', (jws) => ({ ...jws, signatures: [] }), 'VALUE_INVALID', 'signatures'],
  ['no payload', (jws) => ({ signatures: jws.signatures }), 'FIELD_MISSING', 'payload'],
  [
    'more signatures than officers can give',
    (jws) => ({ ...jws, signatures: Array(65).fill(jws.signatures[0]) }),
    'VALUE_INVALID',
    'signatures',
  ],
  ['a padded payload', (jws) => ({ ...jws, payload: `${jws.payload}=` }), 'VALUE_INVALID', 'payload'],
  ['a payload in plain base64', (jws) => ({ ...jws, payload: `${jws.payload}+/` }), 'VALUE_INVALID', 'payload'],
];

for (const [title, change, code, path] of ENVELOPES) {
  test(`refuses a JWS with ${title}`, async () => {
    const error = refusal(change(await signed(alice, bob)));
    assert.deepEqual([error.code, error.path], [code, path]);
  });
}

test('refuses a compact JWS, and more bytes than a signed policy may have', () => {
  assert.equal(refusal(Buffer.from('e30.e30.AAAA')).code, 'MALFORMED');
  assert.equal(refusal(Buffer.alloc(POLICY_JWS_LIMIT_BYTES + 1, 0x20)).code, 'TOO_LARGE');
});

test('a second officer adds signatures to a signed policy; signing again replaces the own ones', async () => {
  const first = await signPolicy({ payload, signers: [officerSigner(alice)] });
  assert.equal(refusal(first).code, 'SIGNATURE_THRESHOLD');
  const second = await cosignPolicy({ jws: first, signer: officerSigner(bob) });
  assert.deepEqual(verifyPolicy(second, anchor).officers, ['alice', 'bob']);
  const third = await cosignPolicy({ jws: second, signer: officerSigner(bob) });
  assert.equal((JSON.parse(third.toString()) as Jws).signatures.length, 4);
  assert.deepEqual(verifyPolicy(third, anchor).officers, ['alice', 'bob']);
});

test('nobody can sign what an agent would refuse', async () => {
  const signers = [officerSigner(alice)];
  const bad = bytesOf({ ...platformPolicy(), algorithms: { allow: ['MD5'] } });
  await assert.rejects(signPolicy({ payload: bad, signers }), { code: 'ALGORITHM_FORBIDDEN' });
  const widening = bytesOf(tenantPolicy({ caches: { tokenSeconds: 60 } }));
  const platform = platformPolicy({ caches: { tokenSeconds: 5 } });
  await assert.rejects(signPolicy({ payload: widening, signers, platform }), { code: 'WIDENING' });
  await assert.rejects(signPolicy({ payload: widening, signers }), { code: 'SCOPE_MISMATCH' });
  const jws = await signPolicy({ payload: widening, signers, platform: platformPolicy() });
  await assert.rejects(cosignPolicy({ jws, signer: officerSigner(bob), platform }), { code: 'WIDENING' });
});

test('jose verifies each signature of a policy that we signed, and reads the same payload', async () => {
  const jws = await signed(alice, bob);
  const kids = new Set<string>();
  for (const { keys } of anchor.officers.slice(0, 2)) {
    for (const jwk of keys) {
      const kid = await calculateJwkThumbprint(jwk as JWK);
      assert.equal(kid, thumbprint(jwk));
      kids.add(kid);
      const alg = jwk.kty === 'AKP' ? 'ML-DSA-65' : jwk.kty === 'EC' ? 'ES256' : 'Ed25519';
      const key = await importJWK(jwk as JWK, alg);
      const only = { ...jws, signatures: jws.signatures.filter((entry) => headerOf(entry).kid === kid) };
      const verified = await generalVerify(only, key, { algorithms: [alg] });
      assert.deepEqual(Buffer.from(verified.payload), payload);
      assert.equal(verified.protectedHeader?.typ, POLICY_JWS_TYPE);
    }
  }
  assert.equal(kids.size, 4);
});

test("noble verifies our ML-DSA-65 signatures, and we verify noble's", async () => {
  const jws = await signed(alice);
  const entry = jws.signatures[1] as Jws['signatures'][0];
  const publicKey = Buffer.from((officerOf(alice).keys[1] as { pub: string }).pub, 'base64url');
  const data = Buffer.from(`${entry.protected}.${jws.payload}`);
  assert.equal(ml_dsa65.verify(Buffer.from(entry.signature, 'base64url'), data, publicKey), true);
  const seed = Buffer.from(alice.privateKeys[1]?.export({ format: 'jwk' })['priv'] as string, 'base64url');
  const { secretKey, publicKey: derived } = ml_dsa65.keygen(seed);
  assert.deepEqual(Buffer.from(derived), publicKey);
  entry.signature = Buffer.from(ml_dsa65.sign(data, secretKey)).toString('base64url');
  assert.deepEqual(verifyPolicy(bytesOf(jws), anchorOf(1, alice)).officers, ['alice']);
});

test('keys of the anchor verify by their own algorithm only', () => {
  const keys = [...anchorKeys(anchor).values()];
  assert.deepEqual(
    keys.map(({ officer, algorithm }) => `${officer} ${algorithm}`),
    ['alice Ed25519', 'alice ML-DSA-65', 'bob ES256', 'bob ML-DSA-65', 'carol Ed25519', 'carol ML-DSA-65'],
  );
  assert.ok(keys.every(({ key }) => key.type === 'public'));
  assert.throws(() => createPublicKey({ key: { ...officerOf(alice).keys[0], x: 'AA' } as never, format: 'jwk' }));
  assert.equal(generateKeyPairSync('ml-dsa-65').publicKey.asymmetricKeyType, 'ml-dsa-65');
});

test('throws nothing but PolicyError, whatever the bytes of the JWS are', async () => {
  const good = await signPolicy({ payload, signers: officers.slice(0, 2).map(officerSigner) });
  const ends = (bytes: Uint8Array): void => {
    try {
      verifyPolicy(bytes, anchor);
    } catch (error) {
      assert.ok(error instanceof PolicyError, String(error));
      assert.ok(error.message.length < 4096);
    }
  };
  fc.assert(fc.property(fc.uint8Array({ maxLength: 300 }), ends));
  fc.assert(fc.property(fc.json(), (json) => ends(Buffer.from(json))));
  fc.assert(
    fc.property(fc.nat(good.length - 1), fc.integer({ min: 0, max: 255 }), (at, byte) => {
      const damaged = Buffer.from(good);
      damaged[at] = byte;
      ends(damaged);
    }),
    { numRuns: 200 },
  );
});

test('no single changed byte of a signed policy leaves it accepted with another payload', async () => {
  const good = await signPolicy({ payload, signers: officers.slice(0, 2).map(officerSigner) });
  fc.assert(
    fc.property(fc.nat(good.length - 1), fc.integer({ min: 1, max: 255 }), (at, mask) => {
      const damaged = Buffer.from(good);
      damaged[at] = (damaged[at] as number) ^ mask;
      try {
        assert.deepEqual(verifyPolicy(damaged, anchor).payload, payload);
      } catch (error) {
        assert.ok(error instanceof PolicyError, String(error));
      }
    }),
    { numRuns: 200 },
  );
});
