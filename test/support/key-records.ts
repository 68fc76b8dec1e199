// Key records for tests: a valid one to change, and any valid one as a fast-check arbitrary.
import fc from 'fast-check';
import { algorithm, type Purpose } from '../../proto/documents/algorithms.ts';
import type { KeyRecord, KeyVersionRecord, VersionState } from '../../proto/documents/key-record.ts';
import { encodeWrappedKey } from '../../proto/documents/wrapped-key.ts';

export const MADE_AT = Date.parse('2026-06-01T00:00:00Z');

export const aVersion = (change: Partial<KeyVersionRecord> = {}): KeyVersionRecord => ({
  version: 1,
  algorithm: 'AES-256',
  jose: 'A256GCMKW',
  state: 'PRIMARY',
  custody: 'hsm',
  tokenId: '00'.repeat(16),
  createdAt: MADE_AT,
  ...change,
});

export const aRecord = (change: Partial<KeyRecord> = {}): KeyRecord => ({
  tenant: 'acme',
  keyId: 'invoices',
  purpose: 'encrypt',
  state: 'ACTIVE',
  labels: {},
  limits: {},
  grants: [],
  versions: [aVersion()],
  createdAt: MADE_AT,
  updatedAt: MADE_AT,
  revision: 1,
  ...change,
});

const BY_PURPOSE: Readonly<Record<Purpose, readonly string[]>> = {
  encrypt: ['AES-256', 'RSA-3072', 'EC-P256'],
  sign: ['RSA-2048', 'EC-P384', 'Ed25519'],
  mac: ['HMAC-SHA256'],
};
const times = fc.integer({ min: 0, max: 8.64e15 });
const counts = fc.integer({ min: 1, max: Number.MAX_SAFE_INTEGER });
const blob = encodeWrappedKey({ scheme: 'aes-gcm', kekVersion: 1, sealed: Buffer.alloc(60) });

const optional = <T>(members: { [K in keyof T]: fc.Arbitrary<T[K]> }) => fc.record(members, { requiredKeys: [] });

const anyVersions = (purpose: Purpose, destroyed: boolean): fc.Arbitrary<readonly KeyVersionRecord[]> => {
  const row = fc.record({
    id: fc.constantFrom(...BY_PURPOSE[purpose]),
    wrapped: fc.boolean(),
    retired: fc.constantFrom<VersionState>('RETIRED', 'REVOKED', 'DESTROYED'),
    createdAt: times,
  });
  return fc.array(row, { minLength: 1, maxLength: 4 }).map((rows) =>
    rows.map(({ id, wrapped, retired, createdAt }, index): KeyVersionRecord => {
      const state = destroyed ? 'DESTROYED' : index === rows.length - 1 ? 'PRIMARY' : retired;
      const inVault = wrapped && id === 'Ed25519';
      const material = state === 'DESTROYED' ? {} : inVault ? { wrapped: blob } : { tokenId: 'ab'.repeat(16) };
      const jose = algorithm(id)?.jose[purpose]?.at(-1) ?? '';
      const version = { version: index + 1, algorithm: id, jose, state, ...material, createdAt };
      return { ...version, custody: inVault ? 'wrapped' : 'hsm' };
    }),
  );
};

/** Any valid record. */
export const anyRecord: fc.Arbitrary<KeyRecord> = fc
  .record({
    purpose: fc.constantFrom<Purpose>('encrypt', 'sign', 'mac'),
    state: fc.constantFrom<KeyRecord['state']>('ACTIVE', 'SUSPENDED', 'REVOKED', 'PENDING_DESTRUCTION', 'DESTROYED'),
  })
  .chain(({ purpose, state }) =>
    fc
      .record({
        keyId: fc.stringMatching(/^[a-z0-9][a-z0-9._-]{0,20}$/),
        labels: fc.dictionary(
          fc.stringMatching(/^[A-Za-z0-9][A-Za-z0-9._/-]{0,10}$/),
          fc.stringMatching(/^[ -~]{0,20}$/),
          {
            maxKeys: 4,
          },
        ),
        limits: optional({ softUses: counts, hardUses: counts, softExpiry: times, hardExpiry: times }),
        grants: fc.constantFrom<KeyRecord['grants']>([], [{ principal: 'web', operations: ['encrypt', 'decrypt'] }]),
        versions: anyVersions(purpose, state === 'DESTROYED'),
        createdAt: times,
        updatedAt: times,
        revision: counts,
        destroyAt: times,
        activatesAt: fc.option(times, { nil: undefined }),
      })
      .map(({ activatesAt, destroyAt, ...rest }): KeyRecord => {
        const pending = state === 'PENDING_DESTRUCTION' ? { stateBefore: 'ACTIVE' as const, destroyAt } : {};
        const [labels, limits] = [{ ...rest.labels }, { ...rest.limits }]; // fast-check's have no prototype
        return {
          tenant: 'acme',
          purpose,
          state,
          ...rest,
          labels,
          limits,
          ...pending,
          ...(activatesAt !== undefined && { activatesAt }),
        };
      }),
  );
