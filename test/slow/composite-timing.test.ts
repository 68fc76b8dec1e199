// How long Decrypt takes to refuse a composite's ciphertext, by what is wrong with it, on a real token. Which of two took
// longer is counted, round by round, so that the machine's load weighs on both; no time is asserted. No two classes may
// separate, whichever half is wrong and whether or not the token finds the padding of RSA right.
import assert from 'node:assert/strict';
import { randomInt } from 'node:crypto';
import { after, before, describe, test } from 'node:test';
import { createKey } from '../../agent/operations/create-key.ts';
import { decrypt } from '../../agent/operations/decrypt.ts';
import { encrypt } from '../../agent/operations/encrypt.ts';
import type { Token } from '../../agent/token/token.ts';
import { PQ_KEMS, type PqKem } from '../../proto/documents/pq-kems.ts';
import { openWorld, type World } from '../agent/keys/world.ts';
import { makeSoftHsm, type SoftHsm } from '../support/softhsm.ts';
import { openSoftHsmToken } from '../support/token.ts';
import { HALF_FAULTS, type HalfFault, joinWrongly, type Texts } from '../support/wrong-halves.ts';

const WARM_UP_ROUNDS = 30;
const ROUNDS = 400;
/** How much oftener than in half of the rounds one class may be slower. Of 400 chance alone gives 0.08 in one of a thousand. */
const MAX_ADVANTAGE = 0.12;
const NONE = Buffer.alloc(0);
const plaintext = Buffer.from('One for the Dark Lord on his dark throne');

const shuffled = <T>(list: readonly T[]): readonly T[] => {
  const rest = [...list];
  return list.map(() => rest.splice(randomInt(rest.length), 1)[0] as T);
};

/** In how many of the rounds the first took longer, less the even odds. */
const advantage = (times: readonly number[], others: readonly number[]): number => {
  const slower = times.filter((time, round) => time > (others[round] as number)).length;
  return slower / times.length - 0.5;
};

const refusalTime = async (world: World, jwe: string): Promise<number> => {
  const began = process.hrtime.bigint();
  const code = await decrypt(world.ports, world.call(), { jwe, key: '', associatedData: NONE }).then(
    () => 'opened',
    (error: { code?: string }) => error.code,
  );
  const took = Number(process.hrtime.bigint() - began);
  assert.equal(code, 'INVALID_CIPHERTEXT');
  return took;
};

describe('the time of a refusal', () => {
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

  for (const id of ['ML-KEM-768-RSA2048', 'ML-KEM-768-P256']) {
    test(`${id}: is alike, whichever half is wrong`, { timeout: 600_000 }, async (t) => {
      const world = openWorld(t, { token });
      const kem = PQ_KEMS.get(id) as PqKem;
      const rest = { jose: '', labels: {}, limits: {}, grants: [] };
      for (const keyId of ['k', 'other']) {
        await createKey(world.ports, world.call(), { keyId, purpose: 'encrypt', algorithm: id, ...rest });
        assert.equal(world.keys.catalog.get('acme', keyId)?.versions[0]?.custody, 'split');
      }
      const seal = async (key: string) =>
        (await encrypt(world.ports, world.call(), { key, plaintext, associatedData: NONE })).value.jwe;
      const texts: Texts = { jwe: await seal('k'), again: await seal('k'), foreign: await seal('other') };
      // Of EC, swapped halves hold no point, which everybody sees: no secret is asked, so their time is another.
      const faults = HALF_FAULTS.filter((fault) => !(fault === 'swapped' && id.includes('P256')));
      const classes = [...faults, 'wrong post-quantum half, once more'] as const;
      const times = new Map<string, number[]>(classes.map((name) => [name, []]));
      for (let round = -WARM_UP_ROUNDS; round < ROUNDS; round += 1) {
        for (const name of shuffled(classes)) {
          const fault = name.replace(', once more', '') as HalfFault;
          const took = await refusalTime(world, joinWrongly(kem, texts, fault));
          if (round >= 0) times.get(name)?.push(took);
        }
        world.records.length = 0;
      }
      for (const [name, own] of times) {
        assert.equal(own.length, ROUNDS);
        const median = [...own].sort((a, b) => a - b)[ROUNDS / 2] as number;
        t.diagnostic(`${name}: median ${(median / 1000).toFixed(0)} µs`);
        for (const [other, others] of times) {
          if (other <= name) continue;
          const found = advantage(own, others);
          t.diagnostic(`${name} beside ${other}: ${(0.5 + Math.abs(found)).toFixed(2)} of the rounds tell them apart`);
          assert.ok(Math.abs(found) <= MAX_ADVANTAGE, `${name} and ${other}: ${found}`);
        }
      }
    });
  }
});
