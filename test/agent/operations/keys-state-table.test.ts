// Walks the whole table state × operation with the real use cases, a real SoftHSM and a real LMDB. What is expected is
// written out here, not read from the code under test.
import assert from 'node:assert/strict';
import { after, before, describe, type TestContext, test } from 'node:test';
import { createKey } from '../../../agent/operations/create-key.ts';
import { decrypt } from '../../../agent/operations/decrypt.ts';
import { decryptDataKey } from '../../../agent/operations/decrypt-data-key.ts';
import { destroyKey } from '../../../agent/operations/destroy-key.ts';
import { encrypt } from '../../../agent/operations/encrypt.ts';
import { encryptGeneral } from '../../../agent/operations/encrypt-general.ts';
import { generateDataKey } from '../../../agent/operations/generate-data-key.ts';
import { getKey } from '../../../agent/operations/get-key.ts';
import { getPublicKey } from '../../../agent/operations/get-public-key.ts';
import { mac } from '../../../agent/operations/mac.ts';
import { reEncrypt } from '../../../agent/operations/re-encrypt.ts';
import { reSign } from '../../../agent/operations/re-sign.ts';
import { restoreKey } from '../../../agent/operations/restore-key.ts';
import { resumeKey } from '../../../agent/operations/resume-key.ts';
import { revokeKey } from '../../../agent/operations/revoke-key.ts';
import { rewrap } from '../../../agent/operations/rewrap.ts';
import { rotateKey } from '../../../agent/operations/rotate-key.ts';
import { sign } from '../../../agent/operations/sign.ts';
import { suspendKey } from '../../../agent/operations/suspend-key.ts';
import { updateKey } from '../../../agent/operations/update-key.ts';
import { verify } from '../../../agent/operations/verify.ts';
import { verifyMac } from '../../../agent/operations/verify-mac.ts';
import type { Token } from '../../../agent/token/token.ts';
import type { Purpose } from '../../../proto/documents/algorithms.ts';
import type { KeyState, VersionState } from '../../../proto/documents/key-record.ts';
import { stateAllows, versionAllows } from '../../../proto/documents/key-states.ts';
import type { OperationName } from '../../../proto/documents/operations.ts';
import { makeSoftHsm, type SoftHsm } from '../../support/softhsm.ts';
import {
  KEY_OPERATIONS,
  KEY_STATES,
  keyStateTable,
  VERSION_STATES,
  versionStateTable,
} from '../../support/state-table.ts';
import { openSoftHsmToken } from '../../support/token.ts';
import { HOUR, openWorld, type World } from '../keys/world.ts';

const ROWS = `
                PRE_ACTIVE ACTIVE SUSPENDED EXPIRED REVOKED PENDING_DESTRUCTION DESTROYED
get-key         yes        yes    yes       yes     yes     yes                 yes
update-key      yes        yes    yes       yes     yes     no                  no
rotate-key      yes        yes    no        yes     no      no                  no
suspend-key     yes        yes    yes       yes     no      no                  no
resume-key      yes        yes    yes       yes     no      no                  no
revoke-key      yes        yes    yes       yes     yes     no                  no
destroy-key     yes        yes    yes       yes     yes     yes                 no
restore-key     yes        yes    yes       yes     yes     yes                 no
get-public-key  yes        yes    no        yes     no      no                  no
encrypt         no         yes    no        no      no      no                  no
sign            no         yes    no        no      no      no                  no
mac             no         yes    no        no      no      no                  no
decrypt         no         yes    no        yes     no      no                  no
verify          no         yes    no        yes     no      no                  no
verify-mac      no         yes    no        yes     no      no                  no
re-encrypt      no         yes    no        no      no      no                  no
rewrap          no         yes    no        no      no      no                  no
re-sign         no         yes    no        no      no      no                  no
generate-data-key no       yes    no        no      no      no                  no
decrypt-data-key no        yes    no        yes     no      no                  no`;

const EXPECTED: ReadonlyMap<string, readonly string[]> = new Map(
  ROWS.split('\n')
    .slice(2)
    .map((line) => {
      const [name = '', ...cells] = line.split(/ +/);
      return [name, cells];
    }),
);

const expected = (state: KeyState, name: OperationName): boolean =>
  EXPECTED.get(name)?.[KEY_STATES.indexOf(state)] === 'yes';

const DATA = Buffer.from('data');
const NONE = Buffer.alloc(0);
type Algorithms = Readonly<Partial<Record<Purpose, string>>>;
const CLASSICAL: Algorithms = { encrypt: 'AES-256', sign: 'EC-P256', mac: 'HMAC-SHA256' };
/** Keys that lie outside the token, and keys with a half in it: their states are the same. */
const FAMILIES: Readonly<Record<string, Algorithms>> = {
  classical: CLASSICAL,
  'post-quantum': { encrypt: 'ML-KEM-768', sign: 'ML-DSA-65' },
  composite: { encrypt: 'ML-KEM-768-P256', sign: 'ML-DSA-65-ES256' },
};
const WITHIN = { sourceKey: '', targetKey: '', newAssociatedData: undefined };
const PURPOSE_OF: Partial<Record<OperationName, Purpose>> = {
  encrypt: 'encrypt',
  decrypt: 'encrypt',
  mac: 'mac',
  'verify-mac': 'mac',
  're-encrypt': 'encrypt',
  rewrap: 'encrypt',
  'generate-data-key': 'encrypt',
  'decrypt-data-key': 'encrypt',
};

/** A key with what its primary version made while it was ACTIVE. */
interface Made {
  readonly key: string;
  readonly purpose: Purpose;
  readonly data: {
    readonly jwe?: string;
    readonly general?: string;
    readonly dataKey?: string;
    readonly jws?: string;
    readonly mac?: Buffer;
  };
}

const makeData = async (world: World, key: string, purpose: Purpose): Promise<Made['data']> => {
  const { ports } = world;
  if (purpose === 'encrypt') {
    const { value } = await encrypt(ports, world.call(), { key, plaintext: DATA, associatedData: NONE });
    const input = { recipients: [{ key }], plaintext: DATA, associatedData: NONE };
    const general = await encryptGeneral(ports, world.call(), input);
    const asked = { key, length: 0, wrappedOnly: true, associatedData: NONE };
    const dataKey = await generateDataKey(ports, world.call(), asked);
    return { jwe: value.jwe, general: general.value.jwe, dataKey: dataKey.value.wrappedDataKey };
  }
  if (purpose === 'mac') return (await mac(ports, world.call(), { key, message: DATA })).value;
  const input = { key, input: { message: DATA }, form: 'compact', type: '' } as const;
  return (await sign(ports, world.call(), input)).value as { jws: string };
};

/** Runs an operation on the key. Resolves if it was done. */
const run = async (world: World, name: OperationName, { key, purpose, data }: Made): Promise<unknown> => {
  const { ports } = world;
  const call = world.call();
  const reason = 'walking the table';
  const rotation = { key, algorithm: '', jose: '', expectedVersion: undefined, acceptLoss: false };
  const acts: Partial<Record<OperationName, () => Promise<unknown>>> = {
    'get-key': () => getKey(ports, call, { key }),
    'update-key': () => updateKey(ports, call, { key, labels: { walked: 'yes' }, revision: undefined }),
    'rotate-key': () => rotateKey(ports, call, rotation),
    'suspend-key': () => suspendKey(ports, call, { key, reason }),
    'resume-key': () => resumeKey(ports, call, { key, reason }),
    'revoke-key': () => revokeKey(ports, call, { key, reason, version: undefined }),
    'destroy-key': () => destroyKey(ports, call, { key, reason }),
    'restore-key': () => restoreKey(ports, call, { key, reason }),
    'get-public-key': () => getPublicKey(ports, call, { key, version: undefined, format: 'jwk' }),
    encrypt: () => encrypt(ports, call, { key, plaintext: DATA, associatedData: NONE }),
    // Within one key: its primary version is written to as well, so the key must let new things be made.
    're-encrypt': () => reEncrypt(ports, call, { ...WITHIN, jwe: data.jwe ?? '', associatedData: NONE }),
    rewrap: () => rewrap(ports, call, { jwe: data.general ?? '', sourceKey: key, add: [{ key }], remove: [] }),
    're-sign': () => reSign(ports, call, { jws: data.jws ?? '', message: undefined, sourceKey: key, targetKey: '' }),
    'generate-data-key': () =>
      generateDataKey(ports, call, { key, length: 0, wrappedOnly: false, associatedData: NONE }),
    'decrypt-data-key': () =>
      decryptDataKey(ports, call, { key, wrappedDataKey: data.dataKey ?? '', associatedData: NONE }),
    sign: () => makeData(world, key, purpose),
    mac: () => makeData(world, key, purpose),
    decrypt: async () => {
      const input = { key, jwe: data.jwe ?? '', associatedData: NONE };
      assert.deepEqual((await decrypt(ports, call, input)).value.plaintext, DATA);
    },
    verify: async () => {
      const input = { key, signature: { jws: data.jws ?? '' }, input: undefined, version: 0 };
      assert.equal((await verify(ports, call, input)).value.valid, true);
    },
    'verify-mac': async () => {
      const input = { key, message: DATA, mac: data.mac ?? NONE, version: 0 };
      assert.equal((await verifyMac(ports, call, input)).value.valid, true);
    },
  };
  const act = acts[name];
  assert.ok(act, `no walk for ${name}`);
  return act();
};

/** Brings an ACTIVE key into a state. Moves the clock of its world. */
const reach = async (world: World, key: string, state: KeyState): Promise<void> => {
  const { ports } = world;
  const input = { key, reason: 'walking the table' };
  switch (state) {
    case 'PRE_ACTIVE': // the key was made to begin an hour after its world
      world.now -= HOUR;
      return;
    case 'ACTIVE':
      return;
    case 'SUSPENDED':
      await suspendKey(ports, world.call(), input);
      return;
    case 'EXPIRED':
      await updateKey(ports, world.call(), { key, limits: { hardExpiry: world.now }, revision: undefined });
      return;
    case 'REVOKED':
      await revokeKey(ports, world.call(), { ...input, version: undefined });
      return;
    case 'PENDING_DESTRUCTION':
      await destroyKey(ports, world.call(), input);
      return;
    case 'DESTROYED':
      await destroyKey(ports, world.call(), input);
      world.now += HOUR;
  }
};

const makeIn = async (
  t: TestContext,
  token: Token,
  state: KeyState,
  purpose: Purpose,
  algorithms = CLASSICAL,
): Promise<[World, Made]> => {
  const world = openWorld(t, { token });
  const key = 'walked';
  const activatesAt = world.now + HOUR;
  await createKey(world.ports, world.call(), {
    keyId: key,
    purpose,
    algorithm: algorithms[purpose] ?? '',
    jose: '',
    labels: {},
    limits: {},
    grants: [],
    activatesAt,
  });
  world.now = activatesAt;
  const made: Made = { key, purpose, data: await makeData(world, key, purpose) };
  await reach(world, key, state);
  assert.equal((await getKey(world.ports, world.call(), { key })).value.key.state, state);
  return [world, made];
};

describe('state × operation', () => {
  let hsm: SoftHsm;
  let token: Token;
  before(async () => {
    hsm = await makeSoftHsm();
    token = await openSoftHsmToken(hsm);
  });
  after(async () => {
    await token.close();
    await hsm.dispose();
  });

  test('the table names every operation on a key and every state', () => {
    assert.deepEqual([...EXPECTED.keys()].toSorted(), [...KEY_OPERATIONS].toSorted());
    assert.deepEqual(ROWS.split('\n')[1]?.trim().split(/ +/), [...KEY_STATES]);
    for (const cells of EXPECTED.values()) assert.equal(cells.length, KEY_STATES.length);
  });

  const cases = Object.entries(FAMILIES).flatMap(([family, algorithms]) =>
    KEY_STATES.map((state) => ({ family, algorithms, state })),
  );
  for (const { family, algorithms, state } of cases) {
    test(`a ${family} key that is ${state} allows just what the table says`, async (t) => {
      const fresh = new Map<Purpose, [World, Made]>();
      for (const name of KEY_OPERATIONS) {
        const purpose = PURPOSE_OF[name] ?? 'sign';
        if (algorithms[purpose] === undefined) continue; // no MAC is of this family
        const [world, made] = fresh.get(purpose) ?? (await makeIn(t, token, state, purpose, algorithms));
        const version = world.keys.catalog.get('acme', made.key)?.versions[0];
        assert.equal(version?.algorithm, algorithms[purpose]);
        assert.equal(version?.custody, { classical: 'hsm', 'post-quantum': 'wrapped', composite: 'split' }[family]);
        assert.equal(stateAllows(state, name), expected(state, name), `the code's own table, ${name}`);
        const before = world.keys.catalog.get('acme', made.key);
        const records = world.records.length;
        const outcome = await run(world, name, made).then(
          () => 'ok',
          (error: { code?: string }) => error.code ?? String(error),
        );
        assert.equal(outcome, expected(state, name) ? 'ok' : 'KEY_STATE', `${name} on a key that is ${state}`);
        assert.equal(world.records.at(-1)?.outcome, outcome, 'the audit log says the same');
        assert.ok(world.records.length > records);
        const unchanged = world.keys.catalog.get('acme', made.key) === before;
        if (outcome !== 'ok') assert.ok(unchanged, 'a refusal changes nothing');
        if (unchanged) fresh.set(purpose, [world, made]);
        else fresh.delete(purpose);
      }
    });
  }

  const rotate = (world: World, key: string) =>
    rotateKey(world.ports, world.call(), {
      key,
      algorithm: '',
      jose: '',
      expectedVersion: undefined,
      acceptLoss: false,
    });

  /** What version 1 of a rotated key may still do, by its state. */
  const PROCESS: Readonly<Record<VersionState, 'ok' | 'KEY_STATE'>> = {
    PRIMARY: 'ok',
    RETIRED: 'ok',
    REVOKED: 'KEY_STATE',
    DESTROYED: 'KEY_STATE',
  };

  for (const state of VERSION_STATES) {
    for (const [name, purpose, family] of [
      ['decrypt', 'encrypt', 'classical'],
      ['verify', 'sign', 'classical'],
      ['verify-mac', 'mac', 'classical'],
      ['decrypt', 'encrypt', 'post-quantum'],
      ['verify', 'sign', 'post-quantum'],
      ['decrypt', 'encrypt', 'composite'],
      ['verify', 'sign', 'composite'],
    ] as const) {
      test(`${name} with a ${family} version that is ${state}: ${PROCESS[state]}`, async (t) => {
        const [world, made] = await makeIn(t, token, 'ACTIVE', purpose, FAMILIES[family]);
        if (state !== 'PRIMARY') await rotate(world, made.key);
        if (state === 'REVOKED') await revokeKey(world.ports, world.call(), { key: made.key, reason: '', version: 1 });
        if (state === 'DESTROYED') await reach(world, made.key, 'DESTROYED');
        if (state === 'DESTROYED') await world.keys.reaper.run();
        assert.equal(world.keys.catalog.get('acme', made.key)?.versions[0]?.state, state);
        const { ports } = world;
        const input = { key: made.key, message: DATA, mac: made.data.mac ?? NONE, version: 1 };
        const act = name === 'verify-mac' ? verifyMac(ports, world.call(), input) : run(world, name, made);
        const outcome = await act.then(
          () => 'ok',
          (error: { code?: string }) => error.code ?? String(error),
        );
        assert.equal(outcome, PROCESS[state]);
      });
    }
  }

  test('only a PRIMARY version makes new signatures: after a rotation the new one does', async (t) => {
    const [world, made] = await makeIn(t, token, 'ACTIVE', 'sign');
    await rotate(world, made.key);
    const { envelope } = await sign(world.ports, world.call(), {
      key: made.key,
      input: { message: DATA },
      form: 'compact',
      type: '',
    });
    assert.equal(envelope.keyUsed?.version, 2);
    for (const state of VERSION_STATES) assert.equal(versionAllows(state, 'apply'), state === 'PRIMARY');
  });

  test('reaped keys have no object left in the token', async (t) => {
    const [world, made] = await makeIn(t, token, 'ACTIVE', 'sign');
    const tokenId = world.keys.catalog.get('acme', made.key)?.versions[0]?.tokenId as string;
    const call = { tenant: 'acme', deadline: Date.now() + 30_000, signal: new AbortController().signal };
    assert.equal((await token.sign(tokenId, 'ES256', Buffer.alloc(32), call)).length, 64);
    await reach(world, made.key, 'DESTROYED');
    await world.keys.reaper.run();
    await assert.rejects(token.sign(tokenId, 'ES256', Buffer.alloc(32), call));
  });
});

describe('the printed tables', () => {
  test('have a row for every operation and say what the code says', () => {
    const lines = keyStateTable().split('\n');
    assert.equal(lines.length, KEY_OPERATIONS.length + 2);
    for (const [index, name] of KEY_OPERATIONS.entries()) {
      const cells = KEY_STATES.map((state) => (expected(state, name) ? 'yes' : '–'));
      assert.equal(lines[index + 2], `| ${[name, ...cells].join(' | ')} |`);
    }
    assert.match(versionStateTable(), /\| apply \| yes \| – \| – \| – \|\n\| process \| yes \| yes \| – \| – \|$/);
  });
});
