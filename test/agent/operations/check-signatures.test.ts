// Signatures that are verified before they leave, where policy says so, with a token that is wrong now and then.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { type SignInput, sign } from '../../../agent/operations/sign.ts';
import { verify } from '../../../agent/operations/verify.ts';
import { FakeToken } from '../../fakes/token.ts';
import { aCall, CryptoWorld } from './crypto-world.ts';

const message = Buffer.from('whatever the device thinks');
const ALGORITHMS: readonly (readonly [id: string, custody: 'hsm' | 'wrapped' | 'split'])[] = [
  ['EC-P256', 'hsm'],
  ['EC-P521', 'hsm'],
  ['RSA-2048', 'hsm'],
  ['Ed25519', 'hsm'],
  ['ML-DSA-65', 'wrapped'],
  ['ML-DSA-44-ES256', 'split'],
];

class WrongToken extends FakeToken {
  isWrong = false;
  override async sign(...args: Parameters<FakeToken['sign']>): Promise<Buffer> {
    const signature = await super.sign(...args);
    if (this.isWrong) signature.writeUInt8(signature.readUInt8(9) ^ 1, 9);
    return signature;
  }
}

const token = new WrongToken();
const world = new CryptoWorld(token);
const signWith = async (key: string, more: Partial<SignInput> = {}) =>
  (await sign(world.ports, aCall(), { key, input: { message }, form: 'compact', type: '', ...more })).value;

before(async () => {
  for (const [algorithm, custody] of ALGORITHMS) {
    await world.add({ keyId: algorithm.toLowerCase(), algorithm, purpose: 'sign', custody });
  }
});
after(() => world.pool.close());

test('right signatures leave in every form, checked or not', async () => {
  for (const checked of [false, true]) {
    world.checkSignatures = checked;
    for (const [algorithm] of ALGORITHMS) {
      for (const form of ['compact', 'detached', 'unencoded', 'raw'] as const) {
        const signed = await signWith(algorithm.toLowerCase(), { form });
        if (!('jws' in signed) || form !== 'compact') continue;
        const input = { key: '', version: 0, input: undefined, signature: { jws: signed.jws } };
        assert.equal((await verify(world.ports, aCall(), input)).value.valid, true, algorithm);
      }
    }
  }
  assert.equal(world.wrongResults, 0);
});

test('a wrong signature of the token stays in the agent where policy says that they are checked', async () => {
  token.isWrong = true;
  try {
    for (const [algorithm, custody] of ALGORITHMS.filter(([, held]) => held !== 'wrapped')) {
      const before = world.wrongResults;
      world.checkSignatures = true;
      await assert.rejects(signWith(algorithm.toLowerCase()), { code: 'HSM_UNAVAILABLE' }, `${algorithm} ${custody}`);
      assert.equal(world.wrongResults, before + 1);
      world.checkSignatures = false;
      await signWith(algorithm.toLowerCase()); // it is not looked at
      assert.equal(world.wrongResults, before + 1);
    }
  } finally {
    token.isWrong = false;
  }
});
