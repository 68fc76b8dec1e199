// Writes test/vectors/policy/: signed policies, good and bad, with what a reader must make of each. Run by hand when the
// format changes: `node test/support/make-policy-vectors.ts`. Officers are new each time and their keys are thrown away.
import { mkdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { generateOfficerKeys, type OfficerKeys, officerOf, officerSigner } from '../../proto/documents/officer-keys.ts';
import { POLICY_JWS_TYPE, policyDigest, signPolicy } from '../../proto/documents/policy-sign.ts';
import { policyFromTemplate } from '../../proto/documents/policy-templates.ts';
import type { PlatformPolicy, TenantPolicy } from '../../proto/documents/policy-types.ts';
import { TRUST_ANCHOR_SCHEMA, thumbprint } from '../../proto/documents/trust-anchor.ts';
import type { PolicyVector } from './policy-vector.ts';

const FOLDER = join(import.meta.dirname, '..', 'vectors', 'policy');
const ISSUED_AT = Date.UTC(2026, 10, 1);
const NOW = '2026-11-24T08:00:00Z';

interface Jws {
  payload: string;
  signatures: { protected: string; signature: string }[];
}

const officers = [
  generateOfficerKeys({ name: 'alice' }),
  generateOfficerKeys({ name: 'bob', classical: 'ES256' }),
  generateOfficerKeys({ name: 'carol' }),
];
const [alice, bob, carol] = officers as [OfficerKeys, OfficerKeys, OfficerKeys];
const stranger = generateOfficerKeys({ name: 'alice' });

const platform = (changes: Partial<PlatformPolicy> = {}): PlatformPolicy => ({
  ...policyFromTemplate({ scope: 'platform', template: 'default', issuedAt: ISSUED_AT, tenants: ['acme'], version: 7 }),
  ...changes,
});
const tenant = (changes: Partial<TenantPolicy> = {}): TenantPolicy => ({
  ...policyFromTemplate({ scope: 'tenant', template: 'default', issuedAt: ISSUED_AT, tenant: 'acme', version: 3 }),
  operations: { sign: ['ES256', 'PS256'] },
  ...changes,
});

const bytesOf = (value: unknown): Buffer => Buffer.from(`${JSON.stringify(value, null, 2)}\n`);

/** Signs anything at all: bad payloads too, which `signPolicy` would not. */
const sign = (payload: Buffer, signers: readonly OfficerKeys[], header: object = {}): Jws => {
  const encoded = payload.toString('base64url');
  const signatures = signers.flatMap((keys) =>
    officerSigner(keys).keys.map(({ kid, algorithm, sign: signData }) => {
      const entry = Buffer.from(JSON.stringify({ alg: algorithm, kid, typ: POLICY_JWS_TYPE, ...header })).toString(
        'base64url',
      );
      const signature = signData(Buffer.from(`${entry}.${encoded}`)) as Buffer;
      return { protected: entry, signature: signature.toString('base64url') };
    }),
  );
  return { payload: encoded, signatures };
};

const good = sign(bytesOf(platform()), [alice, bob]);
const without = (at: number): Jws => ({ ...good, signatures: good.signatures.filter((_, index) => index !== at) });
const refused = (code: string, path: string): PolicyVector['expected'] => ({ accepted: false, code, path });
const accepted = (payload: Buffer, version: number, names: string[]): PolicyVector['expected'] => ({
  accepted: true,
  version,
  digest: policyDigest(payload),
  officers: names,
});

const PAYLOAD = bytesOf(platform());
const TENANT_PAYLOAD = bytesOf(tenant());
const THRESHOLD = refused('SIGNATURE_THRESHOLD', 'signatures');
const both = (payload: unknown): Jws => sign(Buffer.isBuffer(payload) ? payload : bytesOf(payload), [alice, bob]);
const twice = PAYLOAD.toString().replace('"version": 7,', '"version": 7,\n  "version": 8,');
assertDiffers(twice, PAYLOAD.toString());

function assertDiffers(changed: string, from: string): void {
  if (changed === from) throw new Error('the payload was not changed');
}

const CASES: [
  file: string,
  title: string,
  jws: Jws,
  more: Partial<PolicyVector>,
  expected: PolicyVector['expected'],
][] = [
  ['platform', 'a platform policy signed by two of three officers', good, {}, accepted(PAYLOAD, 7, ['alice', 'bob'])],
  [
    'platform-three',
    'one more signature than needed',
    sign(PAYLOAD, officers),
    {},
    accepted(PAYLOAD, 7, ['alice', 'bob', 'carol']),
  ],
  [
    'tenant',
    'a tenant policy that narrows',
    both(TENANT_PAYLOAD),
    { scope: 'tenant/acme' },
    accepted(TENANT_PAYLOAD, 3, ['alice', 'bob']),
  ],
  [
    'same-version',
    'the policy in force again',
    good,
    { floor: { version: 7, digest: policyDigest(PAYLOAD) } },
    accepted(PAYLOAD, 7, ['alice', 'bob']),
  ],
  ['one-officer', 'one officer of the two needed', sign(PAYLOAD, [alice]), {}, THRESHOLD],
  ['no-classical-half', 'an officer without the classical signature', without(2), {}, THRESHOLD],
  ['no-post-quantum-half', 'an officer without the ML-DSA-65 signature', without(1), {}, THRESHOLD],
  [
    'same-officer-twice',
    'one officer signing twice',
    { ...good, signatures: [...good.signatures.slice(0, 2), ...sign(PAYLOAD, [alice]).signatures] },
    {},
    THRESHOLD,
  ],
  ['stranger', 'a signer with an officer’s name but not the key', sign(PAYLOAD, [stranger, bob]), {}, THRESHOLD],
  [
    'changed-payload',
    'a payload that nobody signed',
    { ...good, payload: bytesOf(platform({ version: 9 })).toString('base64url') },
    {},
    THRESHOLD,
  ],
  ['wrong-typ', 'signatures made for something else', sign(PAYLOAD, [alice, bob], { typ: 'JWT' }), {}, THRESHOLD],
  [
    'wrong-alg',
    'headers that name another algorithm than the key’s',
    sign(PAYLOAD, [alice, carol], { alg: 'ES256' }),
    {},
    THRESHOLD,
  ],
  [
    'extra-header',
    'headers with a member that is not known',
    sign(PAYLOAD, [alice, bob], { crit: ['exp'] }),
    {},
    THRESHOLD,
  ],
  [
    'unknown-field',
    'a payload with an unknown field',
    both({ ...platform(), colour: 'blue' }),
    {},
    refused('FIELD_UNKNOWN', 'colour'),
  ],
  [
    'duplicate-field',
    'a payload with a member twice',
    both(Buffer.from(twice)),
    {},
    refused('FIELD_DUPLICATE', 'version'),
  ],
  [
    'forbidden-algorithm',
    'a payload that allows MD5',
    both(platform({ algorithms: { allow: ['MD5'] } })),
    {},
    refused('ALGORITHM_FORBIDDEN', 'algorithms.allow[0]'),
  ],
  [
    'expired',
    'a policy after its end',
    both(platform({ expiresAt: '2026-11-24T08:00:00Z' })),
    {},
    refused('EXPIRED', 'expiresAt'),
  ],
  [
    'not-yet-valid',
    'a policy before its beginning',
    both(platform({ notBefore: '2026-11-24T08:00:01Z' })),
    {},
    refused('NOT_YET_VALID', 'notBefore'),
  ],
  [
    'rollback',
    'a lower version than was in force',
    good,
    { floor: { version: 8, digest: '0'.repeat(64) } },
    refused('ROLLBACK', 'version'),
  ],
  [
    'version-reused',
    'other contents under a version that was in force',
    good,
    { floor: { version: 7, digest: '0'.repeat(64) } },
    refused('VERSION_REUSED', 'version'),
  ],
  [
    'wrong-scope',
    'a tenant policy in place of the platform’s',
    both(TENANT_PAYLOAD),
    {},
    refused('SCOPE_MISMATCH', 'scope'),
  ],
  [
    'widening',
    'a tenant policy that widens',
    both(tenant({ keys: { destroyWaitSeconds: 1 } })),
    { scope: 'tenant/acme' },
    refused('WIDENING', 'keys.destroyWaitSeconds'),
  ],
];

await rm(FOLDER, { recursive: true, force: true });
await mkdir(FOLDER, { recursive: true });
const anchor = { schema: TRUST_ANCHOR_SCHEMA, threshold: 2, officers: officers.map(officerOf) };
await writeFile(join(FOLDER, 'trust-anchor.json'), bytesOf(anchor));
await writeFile(join(FOLDER, 'payload.json'), PAYLOAD);
const vectors: PolicyVector[] = [];
for (const [name, title, jws, more, expected] of CASES) {
  const file = `${name}.json`;
  await writeFile(join(FOLDER, file), bytesOf(jws));
  vectors.push({ title, file, now: NOW, scope: 'platform', ...more, expected });
}
await writeFile(join(FOLDER, 'cases.json'), bytesOf(vectors));
// The signing path of the product must give what the vectors say.
await signPolicy({ payload: PAYLOAD, signers: [officerSigner(alice), officerSigner(bob)] });
console.log(
  `${vectors.length} cases, officers ${anchor.officers.map(({ keys }) => keys.map(thumbprint).join(' ')).join(', ')}`,
);
