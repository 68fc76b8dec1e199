// The key of the key store, wrapped by the token: the same at every start, refused where it is not this store's, and
// nowhere in memory as bytes.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { openSealingKey, type TokenForSealing } from '../../../agent/keys/sealing-key.ts';
import { FakeToken } from '../../fakes/token.ts';
import { makeSoftHsm } from '../../support/softhsm.ts';
import { openSoftHsmToken } from '../../support/token.ts';

const LABEL = 'mortise:agent:host-1:keys-wrap';

const opener = (token: TokenForSealing, host = 'host-1') => {
  const begun: unknown[] = [];
  const events = { storeBegunAnew: (event: unknown) => void begun.push(event) };
  const open = (wrappedKey?: Buffer, isEmpty = wrappedKey === undefined) =>
    openSealingKey({ token, host, now: () => Date.now(), events, store: { wrappedKey, isEmpty } });
  return { open, begun };
};

describe('the sealing key', () => {
  test('is made once on SoftHSM and opens again at the next start', async (t) => {
    const hsm = await makeSoftHsm();
    t.after(() => hsm.dispose());
    const token = await openSoftHsmToken(hsm);
    t.after(() => token.close());
    const first = await opener(token).open();
    const again = await opener(token).open(first.wrapped);
    assert.ok(first.key.equals(again.key));
    assert.equal(first.key.symmetricKeySize, 32);
    const damaged = Buffer.from(first.wrapped);
    damaged[20] = (damaged[20] as number) ^ 1;
    await assert.rejects(opener(token).open(damaged), { code: 'STORE_UNAVAILABLE', message: /does not open/ });
    await assert.rejects(opener(token).open(first.wrapped.subarray(0, 9)), { code: 'STORE_UNAVAILABLE' });
  });

  test('is another one for every store', async () => {
    const token = new FakeToken();
    const [one, two] = [await opener(token).open(), await opener(token).open()];
    assert.ok(!one.key.equals(two.key));
  });

  test('of another host, or of a token that was made anew, is refused', async () => {
    const token = new FakeToken();
    const { wrapped } = await opener(token, 'host-2').open();
    await assert.rejects(opener(token).open(wrapped), { code: 'STORE_UNAVAILABLE', message: new RegExp(LABEL) });
    await opener(token).open();
    await assert.rejects(opener(token).open(wrapped), { code: 'STORE_UNAVAILABLE', message: /does not open/ });
    await assert.rejects(opener(new FakeToken()).open(wrapped), { code: 'STORE_UNAVAILABLE' });
  });

  test('is never made for a store that has rows', async () => {
    const token = new FakeToken();
    await assert.rejects(opener(token).open(undefined, false), {
      code: 'STORE_UNAVAILABLE',
      message: /rows but no key/,
    });
    assert.equal(token.calls.get('generate'), undefined);
  });

  test('tells when a host that had a store has an empty one', async () => {
    const { open, begun } = opener(new FakeToken());
    await open();
    assert.deepEqual(begun, []);
    await open();
    assert.deepEqual(begun, [{ label: LABEL }]);
  });

  test('passes on that the token is away, so that the start tries again', async () => {
    const token = new FakeToken();
    const { wrapped } = await opener(token).open();
    token.fail({ method: 'gcmDecrypt', code: 'HSM_UNAVAILABLE' });
    await assert.rejects(opener(token).open(wrapped), { code: 'HSM_UNAVAILABLE' });
  });

  test('leaves no bytes in the buffers it came in', async () => {
    const seen: Buffer[] = [];
    class Watched extends FakeToken {
      override gcmEncrypt(...args: Parameters<FakeToken['gcmEncrypt']>) {
        assert.ok(args[1].data.buffer.byteLength > 64, 'V8 keeps smaller ones in its heap, where they are moved');
        seen.push(args[1].data);
        return super.gcmEncrypt(...args);
      }
      override async gcmDecrypt(...args: Parameters<FakeToken['gcmDecrypt']>) {
        const bytes = await super.gcmDecrypt(...args);
        assert.ok(bytes.some((byte) => byte !== 0));
        seen.push(bytes);
        return bytes;
      }
    }
    const token = new Watched();
    const { wrapped } = await opener(token).open();
    await opener(token).open(wrapped);
    token.fail({ method: 'gcmDecrypt', alter: (bytes) => bytes.subarray(1) });
    await assert.rejects(opener(token).open(wrapped), { code: 'STORE_UNAVAILABLE', message: /not 32 bytes/ });
    assert.deepEqual(
      seen.map((bytes) => [bytes.length, bytes.every((byte) => byte === 0)]),
      [
        [32, true],
        [32, true],
        [31, true],
      ],
    );
  });
});
