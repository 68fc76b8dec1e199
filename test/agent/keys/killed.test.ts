// A process that is killed on a real SoftHSM: no wrapped key is lost, no token object stays that nobody knows.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { createPrivateKey, createPublicKey } from 'node:crypto';
import { once } from 'node:events';
import { after, before, beforeEach, describe, test } from 'node:test';
import type { TokenCall } from '../../../agent/operations/ports/token.ts';
import type { Token } from '../../../agent/token/token.ts';
import type { KeyRecord, KeyVersionRecord } from '../../../proto/documents/key-record.ts';
import { decodeWrappedKey } from '../../../proto/documents/wrapped-key.ts';
import { temporaryFolder } from '../../support/folder.ts';
import { aRecord } from '../../support/key-records.ts';
import { makeSoftHsm, type SoftHsm } from '../../support/softhsm.ts';
import { openSoftHsmToken } from '../../support/token.ts';
import type { Moment } from './killed-process.ts';
import { openWorld, type World } from './world.ts';

const KEY_IDS = ['a', 'b', 'c'];
const call = (): TokenCall => ({
  tenant: 'acme',
  deadline: Date.now() + 30_000,
  signal: new AbortController().signal,
});

const signingKey = async (world: World, keyId: string): Promise<void> => {
  const identity = { tenant: 'acme', keyId, version: 1, algorithm: 'Ed25519' };
  const made = await world.keys.vault.generate(identity, call());
  const row = { version: 1, algorithm: 'Ed25519', jose: 'Ed25519', custody: 'wrapped', createdAt: world.now } as const;
  const versions: KeyVersionRecord[] = [{ ...row, ...made, state: 'PRIMARY' }];
  await world.keys.catalog.insert(aRecord({ keyId, purpose: 'sign', versions }));
};

/** Whether the seed in the vault belongs to the public key of the record. */
const opens = async (world: World, keyId: string): Promise<boolean> => {
  const record = world.keys.catalog.get('acme', keyId) as KeyRecord;
  const version = record.versions[0] as KeyVersionRecord;
  return world.keys.vault.withSeed(record, version, call(), (seed) => {
    const der = Buffer.concat([Buffer.from('302e020100300506032b657004220420', 'hex'), seed]);
    const secret = createPrivateKey({ key: der, format: 'der', type: 'pkcs8' });
    return createPublicKey(secret).export({ format: 'jwk' }).x === version.publicJwk?.['x'];
  });
};

const kekVersions = (world: World): Set<number> =>
  new Set(
    KEY_IDS.map((keyId) => {
      const wrapped = world.keys.catalog.get('acme', keyId)?.versions[0]?.wrapped ?? '';
      return decodeWrappedKey(wrapped).kekVersion;
    }),
  );

describe('a process that is killed', () => {
  let hsm: SoftHsm;
  let token: Token | undefined;
  before(async () => {
    hsm = await makeSoftHsm();
  });
  beforeEach(() => {
    token = undefined;
  });
  after(() => hsm.dispose());

  /** Runs the child until it kills itself. */
  const killAt = async (path: string, moment: Moment): Promise<void> => {
    const script = new URL('killed-process.ts', import.meta.url).pathname;
    const argument = JSON.stringify({ hsm, path, moment });
    const child = spawn(process.execPath, [script, argument], { stdio: ['ignore', 'inherit', 'inherit'] });
    const [, signal] = await once(child, 'exit');
    assert.equal(signal, 'SIGKILL', 'it ended by itself');
  };

  const moments: readonly Moment[] = [
    { at: 'kekCreated' },
    { at: 'record', number: 1 },
    { at: 'record', number: 2 },
    { at: 'record', number: 3 },
    { at: 'kekDestroyed' },
  ];
  for (const moment of moments) {
    const name = moment.at === 'record' ? `after record ${moment.number}` : `at ${moment.at}`;
    test(`${name} of a KEK rotation loses no key, and the next rotation ends it`, async (t) => {
      const path = temporaryFolder(t);
      const first = await openSoftHsmToken(hsm);
      const world = openWorld(t, { token: first, path });
      for (const keyId of KEY_IDS) await signingKey(world, keyId);
      const before = Math.max(...kekVersions(world));
      await world.keys.close();
      await first.close();
      await killAt(path, moment);
      token = await openSoftHsmToken(hsm);
      t.after(() => token?.close());
      const next = openWorld(t, { token, path });
      for (const keyId of KEY_IDS) assert.equal(await opens(next, keyId), true, `${keyId} after the kill`);
      if (moment.at === 'record' && moment.number < 3) assert.equal(kekVersions(next).size, 2, 'half-way');
      const { version } = await next.keys.vault.rotateKek('acme', call());
      assert.equal(version, moment.at === 'kekDestroyed' ? before + 2 : before + 1);
      assert.deepEqual([...kekVersions(next)], [version]);
      for (const keyId of KEY_IDS) assert.equal(await opens(next, keyId), true, `${keyId} after the rotation`);
      for (let old = 1; old < version; old += 1) {
        assert.equal(await token.find(`test:kek:acme:v${old}`, call()), undefined, `KEK ${old} is still there`);
      }
      assert.ok(await token.find(`test:kek:acme:v${version}`, call()));
      await next.keys.vault.rotateKek('acme', call()); // and it can go on
      await token.destroy((await token.find(`test:kek:acme:v${version + 1}`, call()))?.tokenId ?? '', call());
    });
  }

  test('between making a token object and storing it: the next start destroys the object', async (t) => {
    const path = temporaryFolder(t);
    await killAt(path, { at: 'object' });
    token = await openSoftHsmToken(hsm);
    t.after(() => token?.close());
    const label = 'mortise:key:acme:orphan:v1:ES256';
    assert.ok(await token.find(label, call()), 'the object was made');
    const world = openWorld(t, { token, path });
    await world.keys.reaper.run();
    assert.equal(await token.find(label, call()), undefined);
    assert.equal(world.seen('orphanDestroyed').length, 1);
  });
});
