// ImportKey: a key whose first version was made elsewhere, or an existing key's next one. Invariant: the material comes encrypted to a key of the token,
// is in this process only until the token has it, and is wiped; the object is proved to compute what it should before a
// record names it.
import { algorithm, type Purpose } from '../../proto/documents/algorithms.ts';
import { FN_DSA_SIGNATURES } from '../../proto/documents/fn-dsa.ts';
import { copyGrants } from '../../proto/documents/key-attributes.ts';
import type { KeyLimits, KeyRecord, KeyVersionRecord } from '../../proto/documents/key-record.ts';
import { PQ_KEMS } from '../../proto/documents/pq-kems.ts';
import { PQ_SIGNATURES } from '../../proto/documents/pq-signatures.ts';
import { parseCompactJwe } from '../crypto/jwe.ts';
import { type KeyMaterial, readKeyMaterial } from '../crypto/key-material.ts';
import { AgentError, invalid } from '../errors.ts';
import { checkAttributes, checkTimes } from './create-key.ts';
import { requireSize } from './jose/checks.ts';
import { openWith } from './jose/open-jwe.ts';
import { type KeyOutput, storedKey, viewKey } from './key-change.ts';
import { mergeLimits } from './key-limits.ts';
import { planVersion, storeOrDiscard, type VersionPlan } from './key-version.ts';
import { type Performed, type Ports, perform, type Run } from './perform.ts';
import type { Call } from './ports/call.ts';
import { proveImported } from './prove-imported.ts';
import { currentPrimary, nextNumber, ROTATING, refuseLoss, withVersion } from './rotate-key.ts';

const MAX_WRAPPED_BYTES = 32 * 1024; // an RSA-4096 JWK takes 3.2 KiB
const NONE = Buffer.alloc(0);

export interface ImportKeyInput {
  readonly keyId: string;
  readonly purpose: Purpose | undefined;
  readonly algorithm: string;
  /** Empty: the first of the algorithm's row. */
  readonly jose: string;
  readonly wrappedKey: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly limits: KeyLimits;
  readonly grants: readonly { readonly principal: string; readonly operations: readonly string[] }[];
  readonly activatesAt?: number;
  /** Absent: a new key. */
  readonly asVersion?: { readonly expectedVersion: number | undefined; readonly acceptLoss: boolean };
}

interface Opened {
  readonly bytes: Buffer;
  readonly isJwk: boolean;
  readonly kid: string;
}

/** Opens the JWE with the import key that its kid names. */
const openWrapped = async (ports: Ports, run: Run, text: string): Promise<Opened> => {
  requireSize('wrapped_key', text.length, MAX_WRAPPED_BYTES);
  if (text.split('.', 6).length !== 5) {
    throw invalid(
      'wrapped_key',
      'must be a Compact JWE to a key of GetImportKey; a key that is not encrypted is refused',
    );
  }
  const jwe = parseCompactJwe(text);
  const { alg, kid = '', members } = jwe.header;
  const key = ports.importKeys.take(run.tenant, kid);
  if (key === undefined)
    throw invalid('wrapped_key', 'its kid names no import key of this tenant, or one that has ended');
  run.note({ importKey: kid });
  if (alg !== key.jose) throw invalid('wrapped_key', `header "alg" is not "${key.jose}"`);
  const { algorithm, jose, tokenId, publicJwk } = key;
  const version: KeyVersionRecord = {
    version: 1,
    algorithm,
    jose,
    state: 'PRIMARY',
    custody: 'hsm',
    tokenId,
    publicJwk,
    createdAt: 0,
  };
  const bytes = await openWith(ports, run, { key: undefined, version }, jwe, NONE);
  if (bytes === undefined) throw new AgentError('INVALID_CIPHERTEXT');
  return { bytes, isJwk: members['cty'] === 'jwk+json', kid };
};

/** The version that the material is to become. */
interface Place {
  readonly keyId: string;
  readonly number: number;
  readonly purpose: Purpose;
}

const makeVersion = async (
  ports: Ports,
  run: Run,
  plan: VersionPlan,
  what: Place & { readonly material: KeyMaterial },
): Promise<KeyVersionRecord> => {
  const { keyId, number, purpose, material } = what;
  const identity = { tenant: run.tenant, keyId, version: number, algorithm: plan.algorithm };
  const made = await ports.objects.create(
    { ...identity, purpose, jose: plan.jose, material: material.parts },
    run.token,
  );
  const createdAt = ports.clock.now();
  const version: KeyVersionRecord = {
    version: number,
    ...plan,
    ...made,
    state: 'PRIMARY',
    origin: 'imported',
    createdAt,
  };
  await storeOrDiscard(ports, version, () => proveImported(ports, run, version, material));
  return version;
};

const plan = (ports: Ports, run: Run, input: ImportKeyInput, purpose: Purpose): VersionPlan => {
  const planned = planVersion(ports, run, { algorithm: input.algorithm, jose: input.jose, purpose });
  const { algorithm: id } = planned;
  const isPostQuantum =
    algorithm(id)?.components !== undefined || PQ_KEMS.has(id) || PQ_SIGNATURES.has(id) || FN_DSA_SIGNATURES.has(id);
  if (isPostQuantum) {
    throw new AgentError('HSM_UNSUPPORTED', { message: `keys of ${id} are generated here, not imported` });
  }
  if (planned.custody === 'hsm') return planned;
  throw new AgentError('HSM_UNSUPPORTED', {
    message: `the token cannot hold ${planned.algorithm}, so it is not imported`,
  });
};

/** Opens, reads and places the material; whatever happens, no byte of it stays here. */
const place = async (ports: Ports, run: Run, planned: VersionPlan, wrappedKey: string, at: Place) => {
  const { bytes, isJwk, kid } = await openWrapped(ports, run, wrappedKey);
  let material: KeyMaterial | undefined;
  try {
    material = await readKeyMaterial(bytes, { ...planned, isJwk });
    return { version: await makeVersion(ports, run, planned, { ...at, material }), kid };
  } finally {
    bytes.fill(0);
    for (const part of material?.parts ?? []) part.fill(0);
  }
};

const refuseAttributes = ({ labels, limits, grants, activatesAt }: ImportKeyInput): void => {
  const given = {
    labels,
    limits,
    grants: [...grants],
    activation_time: activatesAt === undefined ? {} : { activatesAt },
  };
  const field = Object.entries(given).find(([, value]) => Object.values(value).some((part) => part !== undefined))?.[0];
  if (field !== undefined) throw invalid(field, 'stays as it is where a version is imported; use UpdateKey');
};

const importVersion = async (
  ports: Ports,
  run: Run,
  input: ImportKeyInput,
  as: NonNullable<ImportKeyInput['asVersion']>,
): Promise<KeyOutput> => {
  refuseAttributes(input);
  const key = run.key(input.keyId, 'key_id', ROTATING);
  if (input.purpose !== undefined && input.purpose !== key.purpose) {
    throw invalid('purpose', `the key is for "${key.purpose}"`);
  }
  const { keyId, purpose } = key;
  const primary = currentPrimary(key, as.expectedVersion);
  run.used(key, primary);
  const number = nextNumber(key);
  const planned = plan(ports, run, input, purpose);
  run.decide(planned, ROTATING.as);
  if (!as.acceptLoss) refuseLoss(primary, planned);
  const change = { previousVersion: primary.version, newVersion: number, previousAlgorithm: primary.jose };
  run.note({ ...change, newAlgorithm: planned.jose, custody: planned.custody, origin: 'imported' });
  await run.intend();
  const { version, kid } = await place(ports, run, planned, input.wrappedKey, { keyId, number, purpose });
  await storeOrDiscard(ports, version, () =>
    ports.keys.replace(withVersion(ports, run, input.keyId, version, primary.version)),
  );
  await ports.importKeys.end(run.tenant, kid);
  run.used(key, version);
  return { key: viewKey(ports, storedKey(ports, key)) };
};

const importNew = async (ports: Ports, run: Run, input: ImportKeyInput): Promise<KeyOutput> => {
  const keyId = run.keyId(input.keyId, 'key_id');
  run.about({ requested: input.keyId, key: keyId });
  if (keyId !== input.keyId) throw invalid('key_id', 'a key id without the tenant');
  const { purpose } = input;
  if (purpose === undefined) throw invalid('purpose', 'encrypt, sign or mac');
  checkAttributes(input);
  if (ports.keys.get(run.tenant, keyId) !== undefined) throw new AgentError('KEY_EXISTS', { metadata: { key: keyId } });
  const planned = plan(ports, run, input, purpose);
  run.about({ requested: input.keyId, key: `${keyId}/1`, algorithm: planned.jose });
  const now = ports.clock.now();
  const limits = mergeLimits(input.limits, ports.policy.keyLimits(run.tenant), now);
  checkTimes(limits, input.activatesAt, now);
  const { version, kid } = await place(ports, run, planned, input.wrappedKey, { keyId, number: 1, purpose });
  const record: KeyRecord = {
    tenant: run.tenant,
    keyId,
    purpose,
    state: 'ACTIVE',
    labels: { ...input.labels },
    limits,
    grants: copyGrants(input.grants),
    versions: [version],
    createdAt: now,
    updatedAt: now,
    ...(input.activatesAt !== undefined && { activatesAt: input.activatesAt }),
    revision: 1,
  };
  await storeOrDiscard(ports, version, () => ports.keys.insert(record));
  await ports.importKeys.end(run.tenant, kid);
  run.used(record, version);
  run.note({ purpose, custody: version.custody, origin: 'imported', limits, newState: 'ACTIVE' });
  return { key: viewKey(ports, record) };
};

export const importKey = (ports: Ports, call: Call, input: ImportKeyInput): Promise<Performed<KeyOutput>> =>
  perform(ports, call, 'import-key', (run) => {
    const { asVersion } = input;
    return asVersion === undefined ? importNew(ports, run, input) : importVersion(ports, run, input, asVersion);
  });
