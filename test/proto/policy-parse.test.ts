// The parser of policy payloads: what it takes, what it refuses with which code and path, and that nothing else happens
// whatever the bytes are.
import assert from 'node:assert/strict';
import { generateKeyPairSync } from 'node:crypto';
import { test } from 'node:test';
import fc from 'fast-check';
import { ALGORITHMS } from '../../proto/documents/algorithms.ts';
import { POLICY_LIMIT_BYTES, parsePolicy } from '../../proto/documents/policy.ts';
import { POLICY_ERROR_CODES, PolicyError, type PolicyErrorCode } from '../../proto/documents/policy-error.ts';
import { parseJson } from '../../proto/documents/strict-json.ts';
import { anyPlatform, anyTenant, bytesOf, platformPolicy, tenantPolicy } from '../support/policy-documents.ts';

const refusal = (bytes: Uint8Array): PolicyError => {
  try {
    parsePolicy(bytes);
  } catch (error) {
    assert.ok(error instanceof PolicyError, `threw ${String(error)}`);
    return error;
  }
  return assert.fail('the policy was accepted');
};

const ec = generateKeyPairSync('ec', { namedCurve: 'P-256' });
const publicJwk = ec.publicKey.export({ format: 'jwk' });
const rsaJwk = (modulusLength: number) =>
  generateKeyPairSync('rsa', { modulusLength }).publicKey.export({ format: 'jwk' });

const ISSUER = {
  issuer: 'https://issuer.example',
  audiences: ['mortise'],
  jwks: { keys: [{ ...publicJwk, kid: 'one', use: 'sig', alg: 'ES256' }] },
  tenants: ['acme', '_platform'],
  tenantClaim: 'tenant',
  scopesClaim: 'scope',
  maxLifetimeSeconds: 3600,
  singleUse: false,
};
const WORKLOAD = { uid: 1000, tenant: 'acme', principal: 'billing', scopes: ['crypto.encrypt'] };

const { tenantClaim: _tenant, scopesClaim: _scopes, ...UNCLAIMED } = ISSUER;
const SUBJECT = { subject: 'system:serviceaccount:shop:checkout', tenant: 'acme', scopes: ['crypto.sign'] };
const withSubjects = (subjects: object[] | undefined): object => ({
  ...platformPolicy(),
  issuers: [{ ...UNCLAIMED, ...(subjects && { subjects }) }],
});
const withIssuer = (changes: object): object => ({ ...platformPolicy(), issuers: [{ ...ISSUER, ...changes }] });
const withJwk = (jwk: object): object => withIssuer({ jwks: { keys: [jwk] } });
const withWorkload = (changes: object): object => ({ ...platformPolicy(), workloads: [{ ...WORKLOAD, ...changes }] });
const withAlgorithms = (changes: object): object => ({
  ...platformPolicy(),
  algorithms: { allow: ['AES-256'], ...changes },
});

const ACCEPTED: Record<string, object> = {
  'a platform policy with everything': {
    ...platformPolicy(),
    issuers: [{ ...ISSUER, clockSkewSeconds: 30 }],
    workloads: [WORKLOAD, { gid: 1000, tenant: '_platform', principal: 'auditor', scopes: ['audit.read'] }],
    revokedTokens: ['jti-1', 'sub:mallory'],
    fipsOnly: { boundary: 'everything' },
    algorithms: {
      allow: ['AES-256', 'PS256', 'Ed25519'],
      deny: ['RS256', 'MD5'],
      sunset: { PS256: { warnAfter: '2026-01-01T00:00:00Z', refuseAfter: '2027-01-01T00:00:00.5Z' } },
    },
    operations: { sign: ['PS256'], decrypt: ['AES-256', 'RSA-OAEP-256'], 'generate-random': [], 'create-key': [] },
    keys: { softUses: 1, hardUses: 2, softAgeSeconds: 3, hardAgeSeconds: 3, destroyWaitSeconds: 0 },
  },
  'a tenant policy with nothing of its own': tenantPolicy(),
  'an issuer that knows nothing of tenants': withSubjects([SUBJECT, { ...SUBJECT, subject: 'other' }]),
  'issuers with RSA, P-521, Ed25519 and ML-DSA keys': withIssuer({
    jwks: {
      keys: [
        { ...rsaJwk(2048), kid: 'rsa', alg: 'PS256' },
        { ...generateKeyPairSync('ec', { namedCurve: 'P-521' }).publicKey.export({ format: 'jwk' }), kid: 'p521' },
        { ...generateKeyPairSync('ed25519').publicKey.export({ format: 'jwk' }), kid: 'ed', alg: 'Ed25519' },
        { ...generateKeyPairSync('ml-dsa-65').publicKey.export({ format: 'jwk' }), kid: 'pq' },
      ],
    },
  }),
};

for (const [title, policy] of Object.entries(ACCEPTED)) {
  test(`accepts ${title} and gives back what it says`, () => {
    assert.deepEqual(parsePolicy(bytesOf(policy)), policy);
  });
}

type Refused = [title: string, policy: object, code: PolicyErrorCode, path: string];
const REFUSED: Refused[] = [
  ['an unknown field', { ...platformPolicy(), colour: 1 }, 'FIELD_UNKNOWN', 'colour'],
  ['an unknown field deep down', withAlgorithms({ permit: [] }), 'FIELD_UNKNOWN', 'algorithms.permit'],
  ['a missing field', { ...platformPolicy(), caches: undefined }, 'FIELD_MISSING', 'caches'],
  ['another schema', { ...platformPolicy(), schema: 'mortise.policy/v2' }, 'VALUE_INVALID', 'schema'],
  ['another scope', { ...platformPolicy(), scope: 'galaxy' }, 'VALUE_INVALID', 'scope'],
  ['issuers in a tenant policy', { ...tenantPolicy(), issuers: [] }, 'FIELD_UNKNOWN', 'issuers'],
  ['tenants in a tenant policy', { ...tenantPolicy(), tenants: [] }, 'FIELD_UNKNOWN', 'tenants'],
  ['a tenant in a platform policy', { ...platformPolicy(), tenant: 'acme' }, 'FIELD_UNKNOWN', 'tenant'],
  ['the host as tenant of a policy', tenantPolicy({ tenant: '_platform' }), 'VALUE_INVALID', 'tenant'],
  ['version 0', platformPolicy({ version: 0 }), 'VALUE_INVALID', 'version'],
  ['a fractional version', platformPolicy({ version: 1.5 }), 'VALUE_INVALID', 'version'],
  ['a version beyond exact numbers', platformPolicy({ version: 2 ** 53 }), 'VALUE_INVALID', 'version'],
  ['a day that does not exist', platformPolicy({ expiresAt: '2027-02-30T00:00:00Z' }), 'VALUE_INVALID', 'expiresAt'],
  ['a time with an offset', platformPolicy({ expiresAt: '2027-02-03T00:00:00+01:00' }), 'VALUE_INVALID', 'expiresAt'],
  ['a local time', platformPolicy({ issuedAt: '2026-02-03T00:00:00' }), 'VALUE_INVALID', 'issuedAt'],
  ['an end before the beginning', platformPolicy({ expiresAt: '2020-01-01T00:00:00Z' }), 'VALUE_INVALID', 'notBefore'],
  ['MD5 allowed', withAlgorithms({ allow: ['AES-256', 'MD5'] }), 'ALGORITHM_FORBIDDEN', 'algorithms.allow[1]'],
  ['3DES in any case of letters', withAlgorithms({ allow: ['3des'] }), 'ALGORITHM_FORBIDDEN', 'algorithms.allow[0]'],
  ['a forbidden JOSE name', withAlgorithms({ allow: ['none'] }), 'ALGORITHM_FORBIDDEN', 'algorithms.allow[0]'],
  ['an unknown algorithm', withAlgorithms({ allow: ['AES-257'] }), 'ALGORITHM_UNKNOWN', 'algorithms.allow[0]'],
  ['an unknown algorithm denied', withAlgorithms({ deny: ['AES-257'] }), 'ALGORITHM_UNKNOWN', 'algorithms.deny[0]'],
  ['an algorithm twice', withAlgorithms({ allow: ['PS256', 'PS256'] }), 'FIELD_DUPLICATE', 'algorithms.allow[1]'],
  [
    'a sunset of what is unknown',
    withAlgorithms({ sunset: { ROT13: { warnAfter: '2026-01-01T00:00:00Z', refuseAfter: '2026-01-01T00:00:00Z' } } }),
    'ALGORITHM_UNKNOWN',
    'algorithms.sunset.ROT13',
  ],
  [
    'a sunset that warns after it refuses',
    withAlgorithms({ sunset: { PS256: { warnAfter: '2027-01-01T00:00:00Z', refuseAfter: '2026-01-01T00:00:00Z' } } }),
    'VALUE_INVALID',
    'algorithms.sunset.PS256.warnAfter',
  ],
  ['an unknown operation', { ...platformPolicy(), operations: { fly: [] } }, 'VALUE_INVALID', 'operations.fly'],
  [
    'an operation that policy does not rule',
    { ...platformPolicy(), operations: { 'list-keys': [] } },
    'VALUE_INVALID',
    'operations.list-keys',
  ],
  [
    'an algorithm that the operation cannot use',
    { ...platformPolicy(), operations: { sign: ['AES-256'] } },
    'VALUE_INVALID',
    'operations.sign[0]',
  ],
  [
    'a forbidden algorithm for an operation',
    { ...platformPolicy(), operations: { verify: ['RS1'] } },
    'ALGORITHM_FORBIDDEN',
    'operations.verify[0]',
  ],
  [
    'a default of another purpose',
    { ...platformPolicy(), defaults: { encrypt: 'Ed25519' } },
    'VALUE_INVALID',
    'defaults.encrypt',
  ],
  [
    'a default that is a JOSE name',
    { ...platformPolicy(), defaults: { sign: 'PS256' } },
    'VALUE_INVALID',
    'defaults.sign',
  ],
  ['fipsOnly true', { ...platformPolicy(), fipsOnly: true }, 'VALUE_INVALID', 'fipsOnly'],
  ['an unknown boundary', { ...platformPolicy(), fipsOnly: { boundary: 'x' } }, 'VALUE_INVALID', 'fipsOnly.boundary'],
  [
    'a soft limit above the hard one',
    { ...platformPolicy(), keys: { softUses: 2, hardUses: 1, destroyWaitSeconds: 0 } },
    'VALUE_INVALID',
    'keys.softUses',
  ],
  ...(
    [
      ['maxAgeSeconds', 3601],
      ['maxUses', 1],
      ['maxUses', 2 ** 20 + 1],
      ['maxBytes', 2 ** 36 + 1],
      ['maxBytes', 0],
    ] as const
  ).map(
    ([field, value]): Refused => [
      `kept content keys with ${field} ${value}`,
      {
        ...platformPolicy(),
        caches: { tokenSeconds: 1, dataKeys: { maxAgeSeconds: 1, maxUses: 2, maxBytes: 1, [field]: value } },
      },
      'VALUE_INVALID',
      `caches.dataKeys.${field}`,
    ],
  ),
  ...(
    [
      ['maxAgeSeconds', 3601],
      ['maxUses', 1],
      ['maxUses', 2 ** 32 + 1],
      ['maxKeys', 1025],
      ['maxKeys', 0],
    ] as const
  ).map(
    ([field, value]): Refused => [
      `kept private bytes with ${field} ${value}`,
      {
        ...platformPolicy(),
        caches: { tokenSeconds: 1, unwrappedKeys: { maxAgeSeconds: 1, maxUses: 2, maxKeys: 1, [field]: value } },
      },
      'VALUE_INVALID',
      `caches.unwrappedKeys.${field}`,
    ],
  ),
  [
    'kept private bytes without all bounds',
    { ...platformPolicy(), caches: { tokenSeconds: 1, unwrappedKeys: { maxAgeSeconds: 2, maxUses: 2 } } },
    'FIELD_MISSING',
    'caches.unwrappedKeys.maxKeys',
  ],
  [
    'kept private bytes with bounds of content keys',
    {
      ...platformPolicy(),
      caches: { tokenSeconds: 1, unwrappedKeys: { maxAgeSeconds: 2, maxUses: 2, maxKeys: 2, maxBytes: 1 } },
    },
    'FIELD_UNKNOWN',
    'caches.unwrappedKeys.maxBytes',
  ],
  [
    'kept content keys without all bounds',
    { ...platformPolicy(), caches: { tokenSeconds: 1, dataKeys: { maxUses: 2 } } },
    'FIELD_MISSING',
    'caches.dataKeys.maxAgeSeconds',
  ],
  [
    'kept content keys by a word',
    { ...platformPolicy(), caches: { tokenSeconds: 1, dataKeys: true } },
    'VALUE_INVALID',
    'caches.dataKeys',
  ],
  [
    'a token cache beyond a minute',
    { ...platformPolicy(), caches: { tokenSeconds: 61 } },
    'VALUE_INVALID',
    'caches.tokenSeconds',
  ],
  [
    'a lease of no time',
    { ...platformPolicy(), lease: { maxStalenessSeconds: 0, whenStale: 'deny' } },
    'VALUE_INVALID',
    'lease.maxStalenessSeconds',
  ],
  ['a workload with uid and gid', withWorkload({ gid: 1 }), 'VALUE_INVALID', 'workloads[0]'],
  ['a workload without either', withWorkload({ uid: undefined }), 'VALUE_INVALID', 'workloads[0]'],
  ['a workload of no tenant', withWorkload({ tenant: 'globex' }), 'TENANT_UNKNOWN', 'workloads[0].tenant'],
  ['a host workload that encrypts', withWorkload({ tenant: '_platform' }), 'VALUE_INVALID', 'workloads[0].scopes'],
  ['an unknown scope', withWorkload({ scopes: ['root'] }), 'VALUE_INVALID', 'workloads[0].scopes[0]'],
  ['a principal with a line break', withWorkload({ principal: 'a\nb' }), 'VALUE_INVALID', 'workloads[0].principal'],
  [
    'two workloads of one uid',
    { ...platformPolicy(), workloads: [WORKLOAD, WORKLOAD] },
    'FIELD_DUPLICATE',
    'workloads[1]',
  ],
  ['an issuer for no tenant of ours', withIssuer({ tenants: ['globex'] }), 'TENANT_UNKNOWN', 'issuers[0].tenants[0]'],
  ['an issuer with claims and subjects', withIssuer({ subjects: [SUBJECT] }), 'VALUE_INVALID', 'issuers[0]'],
  ['an issuer with one claim', withIssuer({ scopesClaim: undefined }), 'VALUE_INVALID', 'issuers[0]'],
  ['an issuer with neither', withSubjects(undefined), 'VALUE_INVALID', 'issuers[0]'],
  ['an issuer with no subject', withSubjects([]), 'VALUE_INVALID', 'issuers[0].subjects'],
  ['a subject twice', withSubjects([SUBJECT, { ...SUBJECT, scopes: [] }]), 'FIELD_DUPLICATE', 'issuers[0].subjects[1]'],
  [
    "a subject of a tenant that is not the issuer's",
    withSubjects([{ ...SUBJECT, tenant: 'globex' }]),
    'VALUE_INVALID',
    'issuers[0].subjects[0].tenant',
  ],
  [
    'a subject with an unknown scope',
    withSubjects([{ ...SUBJECT, scopes: ['root'] }]),
    'VALUE_INVALID',
    'issuers[0].subjects[0].scopes[0]',
  ],
  ['an issuer without audience', withIssuer({ audiences: [] }), 'VALUE_INVALID', 'issuers[0].audiences'],
  ['an issuer without keys', withIssuer({ jwks: { keys: [] } }), 'VALUE_INVALID', 'issuers[0].jwks.keys'],
  ['a private key', withJwk(ec.privateKey.export({ format: 'jwk' })), 'KEY_INVALID', 'issuers[0].jwks.keys[0].d'],
  ['a symmetric key', withJwk({ kty: 'oct', k: 'AAAA' }), 'KEY_INVALID', 'issuers[0].jwks.keys[0].kty'],
  ['an unknown key type', withJwk({ kty: 'XYZ' }), 'VALUE_INVALID', 'issuers[0].jwks.keys[0].kty'],
  ['a key type from the prototype', withJwk({ kty: 'constructor' }), 'VALUE_INVALID', 'issuers[0].jwks.keys[0].kty'],
  ['RSA of 1024 bits', withJwk(rsaJwk(1024)), 'KEY_INVALID', 'issuers[0].jwks.keys[0].n'],
  [
    'RSA with exponent 3',
    withJwk(generateKeyPairSync('rsa', { modulusLength: 2048, publicExponent: 3 }).publicKey.export({ format: 'jwk' })),
    'KEY_INVALID',
    'issuers[0].jwks.keys[0].e',
  ],
  ['a point off the curve', withJwk({ ...publicJwk, y: publicJwk.x }), 'KEY_INVALID', 'issuers[0].jwks.keys[0]'],
  [
    'secp256k1',
    withJwk(generateKeyPairSync('ec', { namedCurve: 'secp256k1' }).publicKey.export({ format: 'jwk' })),
    'VALUE_INVALID',
    'issuers[0].jwks.keys[0].crv',
  ],
  [
    'X25519',
    withJwk(generateKeyPairSync('x25519').publicKey.export({ format: 'jwk' })),
    'VALUE_INVALID',
    'issuers[0].jwks.keys[0].crv',
  ],
  [
    'an algorithm that is not of the key',
    withJwk({ ...publicJwk, alg: 'HS256' }),
    'VALUE_INVALID',
    'issuers[0].jwks.keys[0].alg',
  ],
  ['an encryption key', withJwk({ ...publicJwk, use: 'enc' }), 'VALUE_INVALID', 'issuers[0].jwks.keys[0].use'],
  [
    'a certificate beside the key',
    withJwk({ ...publicJwk, x5c: 'AAAA' }),
    'FIELD_UNKNOWN',
    'issuers[0].jwks.keys[0].x5c',
  ],
  ['padded base64url', withJwk({ ...publicJwk, x: `${publicJwk.x}=` }), 'VALUE_INVALID', 'issuers[0].jwks.keys[0].x'],
  [
    'two keys without kid',
    withIssuer({ jwks: { keys: [publicJwk, rsaJwk(2048)] } }),
    'FIELD_DUPLICATE',
    'issuers[0].jwks.keys[1]',
  ],
];

for (const [title, policy, code, path] of REFUSED) {
  test(`refuses ${title} as ${code} at ${path}`, () => {
    const error = refusal(bytesOf(policy));
    assert.deepEqual([error.code, error.path], [code, path]);
    assert.ok(error.message.startsWith(`${path}: `), error.message);
  });
}

test('refuses every forbidden algorithm by name wherever it would be allowed, and lets a deny list repeat it', () => {
  const forbidden = ALGORITHMS.filter(({ status }) => status === 'forbidden');
  assert.ok(forbidden.length > 10);
  for (const { id } of forbidden) {
    assert.equal(refusal(bytesOf(withAlgorithms({ allow: [id] }))).code, 'ALGORITHM_FORBIDDEN');
    parsePolicy(bytesOf(withAlgorithms({ deny: [id] })));
  }
});

const RAW: [title: string, text: string, code: PolicyErrorCode, path: string][] = [
  ['nothing', '', 'MALFORMED', ''],
  ['two documents', '{}{}', 'MALFORMED', ''],
  ['a member twice', '{"schema":1,"schema":1}', 'FIELD_DUPLICATE', 'schema'],
  ['a member twice under an escape', '{"a":{"b":1,"\\u0062":1}}', 'FIELD_DUPLICATE', 'a.b'],
  ['__proto__ twice', '{"__proto__":1,"__proto__":1}', 'FIELD_DUPLICATE', '__proto__'],
  ['a trailing comma', '{"a":1,}', 'MALFORMED', ''],
  ['a comment', '{/**/}', 'MALFORMED', ''],
  ['NaN', '{"a":NaN}', 'MALFORMED', ''],
  ['a leading zero', '{"a":01}', 'MALFORMED', ''],
  ['a number beyond doubles', '{"a":1e999}', 'MALFORMED', ''],
  ['a raw line break in a string', '{"a":"\n"}', 'MALFORMED', ''],
  ['a lone surrogate', '{"a":"\\ud800"}', 'MALFORMED', ''],
  ['a byte order mark', '\ufeff{}', 'MALFORMED', ''],
  ['depth without end', '['.repeat(100_000), 'MALFORMED', ''],
  ['a list', '[]', 'VALUE_INVALID', ''],
  ['a string', '"policy"', 'VALUE_INVALID', ''],
];

for (const [title, text, code, path] of RAW) {
  test(`refuses ${title} as ${code}`, () => {
    const error = refusal(Buffer.from(text));
    assert.deepEqual([error.code, error.path], [code, path]);
  });
}

test('refuses bytes that are not UTF-8, and more bytes than a policy may have', () => {
  assert.equal(refusal(Buffer.from([0x7b, 0xff, 0x7d])).code, 'MALFORMED');
  assert.equal(refusal(Buffer.alloc(POLICY_LIMIT_BYTES + 1, 0x20)).code, 'TOO_LARGE');
  assert.equal(refusal(Buffer.alloc(POLICY_LIMIT_BYTES, 0x20)).code, 'MALFORMED');
});

test('reads JSON as JSON.parse does wherever it reads it', () => {
  fc.assert(
    fc.property(fc.json({ maxDepth: 5 }), fc.nat(3), (json, indent) => {
      const text = JSON.stringify(JSON.parse(json), null, indent);
      const plain = (value: unknown): unknown => JSON.parse(JSON.stringify(value));
      try {
        assert.deepEqual(plain(parseJson(Buffer.from(text), 1 << 20)), JSON.parse(text));
      } catch (error) {
        assert.ok(error instanceof PolicyError && error.code === 'MALFORMED', String(error));
        assert.ok(text.includes('\\ud'), `only lone surrogates are refused: ${text}`);
      }
    }),
  );
});

const ends = (bytes: Uint8Array): void => {
  try {
    parsePolicy(bytes);
  } catch (error) {
    assert.ok(error instanceof PolicyError, String(error));
    assert.ok(POLICY_ERROR_CODES.includes(error.code));
    assert.ok(error.path.length < 1024 && error.message.length < 2048, error.message);
  }
};

test('throws nothing but a bounded PolicyError, whatever the bytes', () => {
  fc.assert(fc.property(fc.uint8Array({ maxLength: 400 }), ends));
  fc.assert(fc.property(fc.json(), (json) => ends(Buffer.from(json))));
  fc.assert(fc.property(fc.oneof(anyPlatform, anyTenant), (policy) => ends(bytesOf(policy))));
});

test('throws nothing but a bounded PolicyError when a good policy is damaged in one place', () => {
  const good = bytesOf(ACCEPTED['a platform policy with everything']);
  fc.assert(
    fc.property(fc.nat(good.length - 1), fc.integer({ min: 0, max: 255 }), fc.nat(3), (at, byte, cut) => {
      const damaged = Buffer.from(good);
      damaged[at] = byte;
      ends(damaged);
      ends(Buffer.concat([good.subarray(0, at), good.subarray(at + cut)]));
    }),
    { numRuns: 400 },
  );
  fc.assert(
    fc.property(fc.nat(), fc.jsonValue(), (pick, value) => {
      const policy = JSON.parse(good.toString());
      // Walks to some member and puts anything in its place.
      let place = policy;
      for (let step = pick; ; step = Math.floor(step / 7)) {
        const names = Object.keys(place);
        const name = names[step % names.length] as string;
        const next = place[name];
        if (step % 3 !== 0 && typeof next === 'object' && next !== null && Object.keys(next).length > 0) place = next;
        else {
          place[name] = value;
          break;
        }
      }
      ends(bytesOf(policy));
    }),
    { numRuns: 400 },
  );
});
