// Composite signatures against the vectors of both drafts, and the spellings of their ECDSA half.
import assert from 'node:assert/strict';
import { generateKeyPairSync, hash, randomBytes, sign, verify } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import fc from 'fast-check';
import {
  COMPOSITE_SIGNATURES,
  type CompositeSignature,
  classicalInput,
  joinHalves,
  labelContext,
  messageRepresentative,
  readCompositeKey,
  splitHalves,
  verifyClassical,
} from '../../../agent/crypto/composite-signature.ts';
import { derOfEcdsa } from '../../../agent/crypto/ecdsa-der.ts';
import { PostQuantum } from '../../../agent/crypto/post-quantum/post-quantum.ts';
import { parsePublicJwk } from '../../../agent/crypto/public-jwk.ts';
import { ALGORITHMS } from '../../../proto/documents/algorithms.ts';
import { NOBLE } from '../../support/noble-signatures.ts';

const VECTORS = join(import.meta.dirname, '../../vectors/post-quantum');
const SHARED = join(import.meta.dirname, '../../../../shared/vectors/lamps-composite/sig-testvectors.json');
const read = (path: string) => JSON.parse(readFileSync(path, 'utf8'));
const base64 = (text: string) => Buffer.from(text, 'base64');
const base64url = (text: string) => Buffer.from(text, 'base64url');

const postQuantum = new PostQuantum({ clock: { now: () => Date.now() } });
after(() => postQuantum.close());

interface Case {
  readonly composite: CompositeSignature;
  readonly pub: Buffer;
  readonly digest: Buffer;
  readonly signature: Buffer;
  readonly context?: Buffer;
}

/** Which halves are right. */
const check = async ({ composite, pub, digest, signature, context }: Case) => {
  const key = readCompositeKey(composite, pub);
  const halves = splitHalves(composite, signature);
  assert.ok(key && halves);
  const message = messageRepresentative(composite, digest, context);
  const what = { algorithm: composite.pqc.id, key: key.pqc, message, signature: halves.pqc };
  return {
    encoding: key.encoding,
    pqc: await postQuantum.verify({ ...what, context: labelContext(composite) }),
    pqcAlone: await postQuantum.verify(what),
    classical: verifyClassical(composite, key, message, halves.classical),
    noble: NOBLE.get(composite.pqc.id)?.verify(halves.pqc, message, pub.subarray(0, composite.pqc.publicBytes), {
      context: labelContext(composite),
    }),
  };
};

test('every composite of the algorithm table is there, its halves those of the table', () => {
  const rows = ALGORITHMS.filter((row) => row.components !== undefined && row.jose.sign !== undefined);
  assert.equal(rows.length, 7);
  for (const { id, components, jose } of rows) {
    const composite = COMPOSITE_SIGNATURES.get(jose.sign?.[0] ?? '');
    assert.equal(composite?.id, id);
    assert.equal(composite?.pqc.id, components?.pqc);
    const classical = ALGORITHMS.find((row) => row.id === components?.classical);
    assert.ok(classical?.jose.sign?.includes(composite?.classical ?? ''), id);
  }
  assert.equal(COMPOSITE_SIGNATURES.size, rows.length);
});

describe('vectors of the JOSE draft', () => {
  const cases = read(join(VECTORS, 'composite-jose.json')) as {
    jwk: Record<string, string>;
    jws: string;
    representative: string;
  }[];
  assert.equal(cases.length, 5);
  for (const { jwk, jws, representative } of cases) {
    const { alg = '', kty = '', pub = '', kid } = jwk;
    test(`${alg}: the representative is the draft's, and both halves verify, by OpenSSL and by noble`, async () => {
      const composite = COMPOSITE_SIGNATURES.get(alg);
      assert.ok(composite);
      const [header, payload, signature = ''] = jws.split('.');
      const digest = hash(composite.prehash, `${header}.${payload}`, 'buffer');
      assert.equal(messageRepresentative(composite, digest).toString('hex'), representative);
      const what = { composite, pub: base64url(pub), digest, signature: base64url(signature) };
      const halves = { encoding: 'raw', pqc: true, pqcAlone: false, classical: true, noble: true };
      assert.deepEqual(await check(what), halves);
      const other = hash(composite.prehash, `${header}.${payload}A`, 'buffer');
      const wrong = { ...halves, pqc: false, classical: false, noble: false };
      assert.deepEqual(await check({ ...what, digest: other }), wrong);
      assert.equal(parsePublicJwk(JSON.stringify({ kty, alg, pub })).thumbprint, kid);
    });
  }
});

describe('vectors of the LAMPS draft', () => {
  const { m, ctx, tests } = read(join(VECTORS, 'composite-lamps.json')) as {
    m: string;
    ctx: string;
    tests: { tcId: string; pk: string; s: string; sWithContext: string }[];
  };
  assert.equal(tests.length, COMPOSITE_SIGNATURES.size);
  for (const composite of COMPOSITE_SIGNATURES.values()) {
    test(`${composite.label}: both halves verify, with and without a context`, async () => {
      const { pk, s, sWithContext } =
        tests.find(({ tcId }) => tcId === `id-${composite.label.slice('COMPSIG-'.length)}`) ?? assert.fail();
      const what = { composite, pub: base64(pk), digest: hash(composite.prehash, base64(m), 'buffer') };
      const encoding = composite.classical === 'Ed25519' ? 'raw' : 'der';
      const right = { encoding, pqc: true, pqcAlone: false, classical: true, noble: true };
      const wrong = { ...right, pqc: false, classical: false, noble: false };
      const context = base64(ctx);
      assert.deepEqual(await check({ ...what, signature: base64(s) }), right);
      assert.deepEqual(await check({ ...what, signature: base64(sWithContext), context }), right);
      assert.deepEqual(await check({ ...what, signature: base64(sWithContext) }), wrong);
      assert.deepEqual(await check({ ...what, signature: base64(s), context }), wrong);
    });
  }

  test('ours are those of the published file', { skip: !existsSync(SHARED) && `no ${SHARED}` }, () => {
    const published = read(SHARED) as { m: string; tests: { tcId: string; pk: string; s: string }[] };
    assert.equal(published.m, m);
    for (const { tcId, pk, s } of tests) {
      const theirs = published.tests.find((row) => row.tcId === tcId);
      assert.deepEqual([theirs?.pk, theirs?.s], [pk, s], tcId);
    }
  });
});

test('a signature in DER is what OpenSSL reads as the same r and s', () => {
  for (const [namedCurve, bytes] of [
    ['P-256', 32],
    ['P-384', 48],
  ] as const) {
    const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve });
    for (let round = 0; round < 50; round += 1) {
      const message = randomBytes(20);
      const raw = sign('sha256', message, { key: privateKey, dsaEncoding: 'ieee-p1363' });
      assert.equal(raw.length, 2 * bytes);
      assert.ok(verify('sha256', message, { key: publicKey, dsaEncoding: 'der' }, derOfEcdsa(raw)));
    }
  }
  const small = Buffer.concat([Buffer.alloc(31), Buffer.of(1), Buffer.of(0x80), Buffer.alloc(31)]);
  assert.equal(derOfEcdsa(small).toString('hex'), `302602010102210080${'00'.repeat(31)}`);
  for (const length of [0, 63, 98]) assert.throws(() => derOfEcdsa(Buffer.alloc(length)), RangeError);
});

test('the token is given a digest, or the short representative, whatever the size of the message', () => {
  for (const composite of COMPOSITE_SIGNATURES.values()) {
    const digest = hash(composite.prehash, randomBytes(1_000_000), 'buffer');
    const input = classicalInput(composite, messageRepresentative(composite, digest));
    assert.ok(input.length <= 150, composite.id);
    for (const wrong of [digest.subarray(1), Buffer.concat([digest, Buffer.of(0)])]) {
      assert.throws(() => messageRepresentative(composite, wrong), RangeError);
    }
    assert.throws(() => messageRepresentative(composite, digest, Buffer.alloc(256)), RangeError);
  }
});

test('representatives of different labels, contexts and messages differ', () => {
  const seen = new Set<string>();
  let made = 0;
  for (const composite of COMPOSITE_SIGNATURES.values()) {
    for (const context of [Buffer.alloc(0), Buffer.of(0), Buffer.from('a')]) {
      for (const message of ['', 'a', 'b']) {
        const digest = hash(composite.prehash, message, 'buffer');
        seen.add(messageRepresentative(composite, digest, context).toString('hex'));
        made += 1;
      }
    }
  }
  assert.equal(seen.size, made);
});

test('fuzz: any bytes are a public key with both halves or none, and any signature is right or wrong', () => {
  const composites = [...COMPOSITE_SIGNATURES.values()];
  const lamps = read(join(VECTORS, 'composite-lamps.json')).tests as { tcId: string; pk: string; s: string }[];
  const change = fc.record({
    at: fc.nat({ max: 6000 }),
    bit: fc.integer({ min: 1, max: 255 }),
    cut: fc.integer({ min: -3, max: 3 }),
    tail: fc.boolean(),
  });
  const changed = (bytes: Buffer, { at, bit, cut, tail }: { at: number; bit: number; cut: number; tail: boolean }) => {
    const whole = cut < 0 ? bytes.subarray(0, bytes.length + cut) : Buffer.concat([bytes, Buffer.alloc(cut)]);
    const copy = Buffer.from(whole);
    const place = tail ? copy.length - 1 - (at % Math.min(600, copy.length)) : at % copy.length;
    copy.writeUInt8(copy.readUInt8(place) ^ bit, place);
    return copy;
  };
  fc.assert(
    fc.property(fc.constantFrom(...composites), change, change, (composite, key, signature) => {
      const { pk, s } = lamps.find(({ tcId }) => tcId.endsWith(composite.label.slice(8))) ?? assert.fail();
      const read = readCompositeKey(composite, changed(base64(pk), key));
      if (read !== undefined) assert.ok(read.classical.type === 'public' && read.pqc.type === 'public');
      const good = readCompositeKey(composite, base64(pk)) ?? assert.fail();
      const halves = splitHalves(composite, changed(base64(s), signature));
      const representative = messageRepresentative(composite, hash(composite.prehash, 'x', 'buffer'));
      if (halves !== undefined) assert.equal(verifyClassical(composite, good, representative, halves.classical), false);
    }),
    { numRuns: 300 },
  );
  fc.assert(
    fc.property(fc.constantFrom(...composites), fc.uint8Array({ maxLength: 200 }), (composite, bytes) => {
      assert.equal(readCompositeKey(composite, Buffer.from(bytes)), undefined);
      assert.equal(splitHalves(composite, Buffer.from(bytes)), undefined);
    }),
    { numRuns: 100 },
  );
});

test('both spellings of an ECDSA half are read, each with the signatures of its spelling alone', () => {
  const composite = COMPOSITE_SIGNATURES.get('ML-DSA-44-ES256') ?? assert.fail();
  const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const { x = '', y = '' } = publicKey.export({ format: 'jwk' });
  const pqc = base64url(read(join(VECTORS, 'ml-dsa-jose.json'))[0].jwk.pub);
  const raw = Buffer.concat([pqc, base64url(x), base64url(y)]);
  const der = Buffer.concat([pqc, Buffer.of(4), base64url(x), base64url(y)]);
  const message = messageRepresentative(composite, hash('sha256', 'x', 'buffer'));
  const half = sign('sha256', message, { key: privateKey, dsaEncoding: 'ieee-p1363' });
  for (const [pub, encoding] of [
    [raw, 'raw'],
    [der, 'der'],
  ] as const) {
    const key = readCompositeKey(composite, pub) ?? assert.fail();
    assert.equal(key.encoding, encoding);
    for (const spelled of ['raw', 'der'] as const) {
      const signature = joinHalves(composite, spelled, { pqc: Buffer.alloc(2420), classical: half });
      const { classical } = splitHalves(composite, signature) ?? assert.fail();
      assert.equal(verifyClassical(composite, key, message, classical), spelled === encoding);
    }
  }
  for (const form of [2, 3, 5]) {
    assert.equal(
      readCompositeKey(composite, Buffer.concat([pqc, Buffer.of(form), base64url(x), base64url(y)])),
      undefined,
    );
  }
});
