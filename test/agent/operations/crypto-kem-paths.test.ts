// Whichever half of a composite is wrong, Decrypt does the same work: each half is asked once, in one order, and what
// comes out is one error with one record. Counted here; test/slow/composite-timing.test.ts measures it on a real token.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { AgentError } from '../../../agent/errors.ts';
import { decrypt } from '../../../agent/operations/decrypt.ts';
import { encrypt } from '../../../agent/operations/encrypt.ts';
import { PQ_KEMS, type PqKem } from '../../../proto/documents/pq-kems.ts';
import { FakeToken } from '../../fakes/token.ts';
import { HALF_FAULTS, joinWrongly } from '../../support/wrong-halves.ts';
import { aCall, CryptoWorld, NO_AAD } from './crypto-world.ts';

const plaintext = Buffer.from('Nine for Mortal Men doomed to die');

/** Notes the name of every call that asks for a private half. */
const watch = (world: CryptoWorld, token: FakeToken): string[] => {
  const asked: string[] = [];
  const { ports } = world;
  for (const name of ['oaepDecrypt', 'ecdh', 'decapsulate'] as const) {
    const own = token[name].bind(token) as (...given: unknown[]) => Promise<Buffer>;
    Object.assign(token, {
      [name]: (...given: unknown[]) => {
        asked.push(name);
        return own(...given);
      },
    });
  }
  const { withSeed } = ports.vault;
  ports.vault.withSeed = (...given) => {
    asked.push('withSeed');
    return withSeed(...given);
  };
  return asked;
};

interface Seen {
  readonly asked: readonly string[];
  readonly code: string;
  readonly message: string;
  readonly record: unknown;
}

for (const id of ['ML-KEM-768-RSA2048', 'ML-KEM-1024-RSA3072', 'ML-KEM-768-P256', 'ML-KEM-1024-P384']) {
  for (const custody of ['split', 'hsm'] as const) {
    describe(`${id}, ${custody}`, () => {
      test('every wrong half takes the path of every other: the same calls, error and record', async () => {
        const token = new FakeToken({ postQuantum: custody === 'hsm' });
        const world = new CryptoWorld(token);
        for (const keyId of ['k', 'other']) await world.add({ keyId, algorithm: id, purpose: 'encrypt', custody });
        const seal = async (key: string) =>
          (await encrypt(world.ports, aCall(), { key, plaintext, ...NO_AAD })).value.jwe;
        const texts = { jwe: await seal('k'), again: await seal('k'), foreign: await seal('other') };
        const asked = watch(world, token);
        const open = async (jwe: string): Promise<Seen> => {
          asked.length = 0;
          const thrown = await decrypt(world.ports, aCall(), { jwe, key: '', ...NO_AAD }).then(
            () => assert.fail('it opened'),
            (error: unknown) => error,
          );
          assert.ok(thrown instanceof AgentError, String(thrown));
          const { key, algorithm, operation, outcome, detail } = world.lastRecord;
          const record = { key, algorithm, operation, outcome, detail };
          return { asked: [...asked], code: thrown.code, message: thrown.message, record };
        };
        const classical = id.includes('RSA') ? 'oaepDecrypt' : 'ecdh';
        const whole = custody === 'hsm' ? [classical, 'decapsulate'] : ['withSeed', classical];
        await decrypt(world.ports, aCall(), { jwe: texts.jwe, key: '', ...NO_AAD });
        assert.deepEqual(asked, whole, 'what is right takes this path');
        for (const fault of HALF_FAULTS) {
          const seen = await open(joinWrongly(PQ_KEMS.get(id) as PqKem, texts, fault));
          assert.equal(seen.code, 'INVALID_CIPHERTEXT', fault);
          // Swapped, an EC point is none: public, so the token is spared it (SP 800-56A section 5.6.2.3).
          const spared = fault === 'swapped' && classical === 'ecdh';
          assert.deepEqual(seen.asked, spared ? whole.filter((name) => name !== classical) : whole, fault);
          const first = await open(joinWrongly(PQ_KEMS.get(id) as PqKem, texts, 'wrong classical half'));
          assert.equal(seen.message, first.message, fault);
          assert.deepEqual(seen.record, first.record, fault);
        }
      });
    });
  }
}
