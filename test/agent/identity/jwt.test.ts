import assert from 'node:assert/strict';
import { createHmac, createSecretKey } from 'node:crypto';
import { before, test } from 'node:test';
import fc from 'fast-check';
import { CompactSign, exportJWK, exportSPKI, importJWK, type JWTPayload } from 'jose';
import { AgentError, type Code } from '../../../agent/errors.ts';
import { createJwtVerifier } from '../../../agent/identity/jwt.ts';
import type { Issuer } from '../../../agent/identity/types.ts';
import { claimsOf, issuerOf, makeSigner, NOW, type Signer, sign, testClock } from './support.ts';

const ALGORITHMS = [
  ...['RS256', 'RS384', 'RS512', 'PS256', 'PS384', 'PS512', 'ES256', 'ES384', 'ES512'],
  ...['Ed25519', 'EdDSA', 'ML-DSA-44', 'ML-DSA-65', 'ML-DSA-87'],
];

let signer: Signer;
let other: Signer;
let issuer: Issuer;
before(async () => {
  signer = await makeSigner('ES256');
  other = await makeSigner('ES256', 'kid-other');
  issuer = issuerOf([signer]);
});

const verify = (token: string, issuers: readonly Issuer[] = [issuer], now = NOW) =>
  createJwtVerifier({ clock: testClock(now) }).verify(token, issuers);

const refused =
  (reason: RegExp, code: Code = 'UNAUTHENTICATED') =>
  (error: unknown): true => {
    assert.ok(error instanceof AgentError);
    assert.equal(error.code, code);
    assert.match((error.cause as Error).message, reason);
    return true;
  };

const base64url = (value: unknown): string => Buffer.from(JSON.stringify(value)).toString('base64url');

for (const alg of ALGORITHMS) {
  test(`accepts ${alg}`, async () => {
    const own = await makeSigner(alg);
    const verified = await verify(await sign(own), [issuerOf([own])]);
    assert.equal(verified.tenant, 'blue');
    assert.equal(verified.principal, 'payments');
    assert.deepEqual([...verified.scopes].sort(), ['crypto.decrypt', 'crypto.encrypt']);
    assert.equal(verified.expiresAt, NOW + 300_000);
  });
}

const seconds = NOW / 1000;
const { aud: _aud, exp: _exp, nbf: _nbf, sub: _sub, tenant: _tenant, ...bare } = claimsOf();

const WRONG_CLAIMS: readonly [name: string, claims: JWTPayload, reason: RegExp, code?: Code][] = [
  ['a stranger as issuer', claimsOf({ iss: 'https://evil.example' }), /no such issuer/],
  ['no issuer', claimsOf({ iss: undefined as never }), /no such issuer/],
  ['another audience', claimsOf({ aud: 'vault' }), /aud/],
  ['no audience', { ...bare, exp: seconds + 60, nbf: seconds, sub: 'a', tenant: 'blue' }, /aud/],
  ['an audience that only contains ours', claimsOf({ aud: 'mortise vault' }), /aud/],
  ['an expiry in the past', claimsOf({ exp: seconds - 1 }), /exp has passed/, 'TOKEN_EXPIRED'],
  ['an expiry right now', claimsOf({ exp: seconds }), /exp has passed/, 'TOKEN_EXPIRED'],
  ['no expiry', { ...claimsOf(), exp: undefined as never }, /claim exp/],
  ['an expiry that is no number', claimsOf({ exp: `${seconds + 60}` as never }), /claim exp/],
  ['an expiry far beyond all time', claimsOf({ exp: 1e300 }), /claim exp/],
  ['no nbf', { ...claimsOf(), nbf: undefined as never }, /claim nbf/],
  ['an nbf in the future beyond the skew', claimsOf({ nbf: seconds + 6 }), /nbf/],
  ['an iat in the future beyond the skew', claimsOf({ iat: seconds + 6 }), /iat/],
  ['a longer life than allowed', claimsOf({ exp: seconds + 601 }), /lives longer/],
  ['a longer life than allowed, by its nbf', claimsOf({ nbf: seconds - 600 }), /lives longer/],
  ['no subject', { ...claimsOf(), sub: undefined as never }, /claim sub/],
  ['an empty subject', claimsOf({ sub: '' }), /claim sub/],
  ['a subject with a line feed', claimsOf({ sub: 'payments\nadmin' }), /claim sub/],
  ['a subject with a bidirectional control', claimsOf({ sub: 'pay\u202ements' }), /claim sub/],
  ['a subject too long for a record', claimsOf({ sub: 'x'.repeat(256) }), /claim sub/],
  ['no tenant', { ...claimsOf(), tenant: undefined }, /claim tenant/],
  ['a tenant that the issuer may not speak for', claimsOf({ tenant: 'red' }), /may not speak/],
  ['several tenants', claimsOf({ tenant: ['blue'] }), /claim tenant/],
  ['the host as tenant', claimsOf({ tenant: '_platform' }), /may not speak/],
  ['a jti that is no text', claimsOf({ jti: 7 as never }), /claim jti/],
];

for (const [name, claims, reason, code] of WRONG_CLAIMS) {
  test(`refuses ${name}`, async () => {
    const clean = Object.fromEntries(Object.entries(claims).filter(([, value]) => value !== undefined));
    await assert.rejects(verify(await sign(signer, clean)), refused(reason, code));
  });
}

test('the skew forgives a clock ahead and prolongs nothing', async () => {
  await verify(await sign(signer, claimsOf({ nbf: seconds + 5, iat: seconds + 5 })));
  const wide = issuerOf([signer], { clockSkewSeconds: 60 });
  await verify(await sign(signer, claimsOf({ nbf: seconds + 60, iat: seconds + 60 })), [wide]);
  await assert.rejects(
    verify(await sign(signer, claimsOf({ exp: seconds - 1 })), [wide]),
    refused(/exp/, 'TOKEN_EXPIRED'),
  );
});

test('an expired token with a wrong signature is not called expired', async () => {
  const forged = await sign({ ...other, kid: signer.kid }, claimsOf({ exp: seconds - 1 }));
  await assert.rejects(verify(forged), refused(/does not verify/));
});

test('scopes come as text or list, unknown ones are dropped, none means none', async () => {
  const scopes = async (scope: unknown, tenant = 'blue', tenants = ['blue', '_platform']) =>
    [
      ...(await verify(await sign(signer, claimsOf({ scope, tenant })), [issuerOf([signer], { tenants })])).scopes,
    ].sort();
  assert.deepEqual(await scopes('keys.read future.scope crypto.sign'), ['crypto.sign', 'keys.read']);
  assert.deepEqual(await scopes(['keys.read', 'crypto.sign', 3, null]), ['crypto.sign', 'keys.read']);
  assert.deepEqual(await scopes(undefined), []);
  assert.deepEqual(await scopes({ 'keys.read': true }), []);
  assert.deepEqual(await scopes('keys.read crypto.sign audit.read agent.status', '_platform'), [
    'agent.status',
    'audit.read',
  ]);
});

test('a token of a single-use issuer must have a jti', async () => {
  const once = issuerOf([signer], { singleUse: true });
  await assert.rejects(verify(await sign(signer), [once]), refused(/claim jti/));
  const verified = await verify(await sign(signer, claimsOf({ jti: 'one' })), [once]);
  assert.equal(verified.id, 'one');
  assert.equal(verified.singleUse, true);
});

test('the key is chosen by kid, and an issuer cannot sign with the key of another', async () => {
  const both = issuerOf([signer, other]);
  await verify(await sign(other), [both]);
  await assert.rejects(verify(await sign({ ...other, kid: signer.kid }), [both]), refused(/does not verify/));
  await assert.rejects(verify(await sign({ ...other, kid: 'unknown' }), [both]), refused(/does not verify/));
  await assert.rejects(verify(await sign(signer, claimsOf(), { kid: undefined }), [both]), refused(/does not verify/));
  const second = issuerOf([other], { issuer: 'https://second.example', tenants: ['red'] });
  await assert.rejects(verify(await sign(other), [issuer, second]), refused(/does not verify/));
  await assert.rejects(
    verify(await sign(signer, claimsOf({ iss: 'https://second.example', tenant: 'red' })), [issuer, second]),
    refused(/does not verify/),
  );
});

test('refuses unsigned tokens and symmetric algorithms, also keyed with the public key', async () => {
  const claims = base64url(claimsOf());
  for (const alg of ['none', 'None', 'NONE', '']) {
    await assert.rejects(verify(`${base64url({ alg })}.${claims}.`), refused(/compact/));
    await assert.rejects(verify(`${base64url({ alg })}.${claims}.AA`), refused(/alg is not allowed/));
  }
  const rsa = await makeSigner('RS256');
  const publicKey = (await generateSpki(rsa)) as string;
  const head = `${base64url({ alg: 'HS256', kid: rsa.kid })}.${claims}`;
  const mac = createHmac('sha256', createSecretKey(Buffer.from(publicKey)))
    .update(head)
    .digest('base64url');
  await assert.rejects(verify(`${head}.${mac}`, [issuerOf([rsa])]), refused(/alg is not allowed/));
  const secret = { kty: 'oct', k: Buffer.alloc(32).toString('base64url'), kid: 'secret', alg: 'HS256' };
  const own = await new CompactSign(Buffer.from(JSON.stringify(claimsOf())))
    .setProtectedHeader({ alg: 'HS256', kid: 'secret' })
    .sign(Buffer.alloc(32));
  await assert.rejects(verify(own, [issuerOf([], { jwks: { keys: [secret] } })]), refused(/alg is not allowed/));
});

const generateSpki = async ({ jwk, alg }: Signer): Promise<string> => {
  return exportSPKI((await importJWK({ ...jwk, ext: true } as never, alg, { extractable: true })) as never);
};

test('a key serves only the algorithm that its JWK names', async () => {
  const rsa = await makeSigner('RS256');
  const bound = issuerOf([rsa]);
  const pss = await importJWK({ ...(await exportJWK(rsa.privateKey)) }, 'PS256');
  const confused = await new CompactSign(Buffer.from(JSON.stringify(claimsOf())))
    .setProtectedHeader({ alg: 'PS256', kid: rsa.kid })
    .sign(pss);
  await assert.rejects(verify(confused, [bound]), refused(/does not verify/));
});

test('refuses other kinds of token and headers that bring keys or extensions', async () => {
  for (const typ of ['secevent+jwt', 'logout+jwt', 'dpop+jwt', 'JOSE', 7]) {
    await assert.rejects(verify(await sign(signer, claimsOf(), { typ })), refused(/typ/));
  }
  for (const typ of ['JWT', 'jwt', 'at+jwt', 'application/at+jwt'])
    await verify(await sign(signer, claimsOf(), { typ }));
  await assert.rejects(verify(await sign(signer, claimsOf(), { cty: 'JWT' })), refused(/header has cty/));
  await assert.rejects(verify(await sign(signer, claimsOf(), { zip: 'DEF' })), refused(/header has zip/));
  const evil = await makeSigner('ES256', 'evil');
  for (const header of [{ jwk: evil.jwk }, { jku: 'https://evil.example/jwks' }, { x5c: ['AA'] }]) {
    await assert.rejects(
      verify(await sign({ ...evil, kid: signer.kid }, claimsOf(), header)),
      refused(/does not verify/),
    );
  }
});

test('refuses what is larger than 8 KiB before parsing it', async () => {
  const large = await sign(signer, claimsOf({ pad: 'x'.repeat(6200) }));
  assert.ok(large.length > 8192);
  await assert.rejects(verify(large), refused(/8 KiB/));
});

test('no text makes the verifier throw anything but UNAUTHENTICATED', async () => {
  const good = await sign(signer);
  const parts = good.split('.');
  const part = fc.oneof(
    fc.constantFrom(...parts, '', 'e30', 'bnVsbA', 'W10'),
    fc.json().map((text) => Buffer.from(text).toString('base64url')),
    fc.uint8Array({ maxLength: 80 }).map((bytes) => Buffer.from(bytes).toString('base64url')),
  );
  const token = fc.oneof(
    fc.string(),
    fc.array(part, { minLength: 1, maxLength: 5 }).map((all) => all.join('.')),
    fc
      .tuple(fc.nat(good.length - 1), fc.constantFrom(...'AZaz09-_.='))
      .map(([at, char]) => good.slice(0, at) + char + good.slice(at + 1)),
  );
  await fc.assert(
    fc.asyncProperty(token, async (text) => {
      fc.pre(text !== good && !isSameSignature(text, good));
      await assert.rejects(verify(text), refused(/./));
    }),
    { numRuns: 500 },
  );
});

/** The last character of a signature has bits that base64url does not use; a lenient decoder reads the same bytes. */
const isSameSignature = (text: string, good: string): boolean => text.slice(0, -1) === good.slice(0, -1);

test('where the policy lists subjects they alone say tenant and scopes', async () => {
  const { tenantClaim: _t, scopesClaim: _s, ...rest } = issuer;
  const subjects = [
    { subject: 'system:serviceaccount:shop:checkout', tenant: 'blue', scopes: ['crypto.sign'] },
    { subject: 'system:serviceaccount:shop:cart', tenant: 'green', scopes: ['crypto.verify'] },
  ];
  const kubernetes = { ...rest, tenants: ['blue', 'green'], subjects };
  // As the API server makes them for a projected volume; a claim of tenant or scope would be a stranger's word.
  const claims = claimsOf({
    sub: 'system:serviceaccount:shop:checkout',
    tenant: 'green',
    scope: 'keys.manage',
    'kubernetes.io': {
      namespace: 'shop',
      serviceaccount: { name: 'checkout', uid: 'u' },
      pod: { name: 'p', uid: 'v' },
    },
  });
  const verified = await verify(await sign(signer, claims), [kubernetes]);
  assert.deepEqual(
    [verified.tenant, verified.principal, [...verified.scopes]],
    ['blue', 'system:serviceaccount:shop:checkout', ['crypto.sign']],
  );
  for (const sub of ['system:serviceaccount:shop:other', 'system:serviceaccount:shop:checkout ', 'constructor']) {
    await assert.rejects(
      verify(await sign(signer, claimsOf({ sub })), [kubernetes]),
      refused(/not among the subjects/),
    );
  }
});
