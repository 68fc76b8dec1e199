// What a token process makes of a module that gives other attributes than were asked for, or lies about them: nothing that
// could leave the token is kept or used. Through the module of test/hsm/shim, over any real one.
import assert from 'node:assert/strict';
import { createECDH, randomBytes } from 'node:crypto';
import { after, afterEach, before, describe, test } from 'node:test';
import type { Token } from '../../agent/token/token.ts';
import type { Purpose } from '../../proto/documents/algorithms.ts';
import type { Pkcs11Shim, ShimRules } from '../support/pkcs11-shim.ts';
import { callOf, rejectsWith } from './token.ts';

export interface LyingToken {
  readonly token: Token;
  readonly shim: Pkcs11Shim;
  close(): Promise<void>;
}

const [TOKEN, PRIVATE, SENSITIVE, EXTRACTABLE, SIGN, ENCRYPT, DERIVE, DECAPSULATE] = [
  0x001, 0x002, 0x103, 0x162, 0x108, 0x104, 0x10c, 0x634,
];
const [NO, YES] = [Buffer.of(0), Buffer.of(1)];
const weak = (name: `C_${string}`): ShimRules => ({
  templates: [
    { in: name, type: SENSITIVE, value: NO },
    { in: name, type: EXTRACTABLE, value: YES },
  ],
});
const KINDS: readonly (readonly [algorithm: string, purpose: Purpose, by: `C_${string}`, use: number])[] = [
  ['AES-256', 'encrypt', 'C_GenerateKey', ENCRYPT],
  ['HMAC-SHA256', 'mac', 'C_GenerateKey', SIGN],
  ['EC-P256', 'sign', 'C_GenerateKeyPair', SIGN],
  ['EC-P256', 'encrypt', 'C_GenerateKeyPair', DERIVE],
  ['ML-DSA-65', 'sign', 'C_GenerateKeyPair', SIGN],
  ['ML-KEM-768', 'encrypt', 'C_GenerateKeyPair', DECAPSULATE],
];

export const lyingContract = (name: string, open: () => Promise<LyingToken>): void => {
  describe(`attributes read back: ${name}`, () => {
    let under: LyingToken;
    before(async () => {
      under = await open();
    });
    after(() => under?.close());
    afterEach(() => under.shim.setRules({}));

    const make = (algorithm: string, purpose: Purpose) =>
      under.token.generate({ algorithm, purpose, label: randomBytes(8).toString('hex') }, callOf());
    const create = () =>
      under.token.create(
        {
          algorithm: 'AES-256',
          purpose: 'encrypt',
          label: randomBytes(8).toString('hex'),
          tokenId: randomBytes(16).toString('hex'),
          material: [randomBytes(32)],
        },
        callOf(),
      );
    /** It fails, and nothing that it made is left. */
    const leavesNothing = async (what: () => Promise<unknown>): Promise<void> => {
      const before = under.shim.objects();
      await rejectsWith(what(), 'HSM_UNSUPPORTED');
      assert.equal(under.shim.objects(), before, 'an object is left on the token');
    };

    for (const [algorithm, purpose, by, use] of KINDS) {
      test(`${algorithm} to ${purpose}: a generated key that could leave the token is destroyed`, async (t) => {
        const { token, shim } = under;
        if (!token.canHold(algorithm, purpose).ok) return t.skip('not in this token');
        const lies = [
          [EXTRACTABLE, YES],
          [SENSITIVE, NO],
          [PRIVATE, NO],
          [TOKEN, NO],
          [use, NO],
        ] as const;
        for (const [type, value] of lies) {
          shim.setRules({ attributes: [{ type, value }] });
          await leavesNothing(() => make(algorithm, purpose));
        }
        shim.setRules({ attributes: [{ type: EXTRACTABLE, value: 'absent' }] });
        await leavesNothing(() => make(algorithm, purpose));
        shim.setRules(weak(by));
        const fault = shim.addFault({ in: 'C_SetAttributeValue', does: { return: 0x10 } });
        await leavesNothing(() => make(algorithm, purpose));
        assert.ok(fault.fired() > 0, 'repair was not tried');
        fault.withdraw();
        shim.setRules({});
        await make(algorithm, purpose);
      });
    }

    test('an imported key that could leave the token is destroyed', async () => {
      const { shim } = under;
      for (const [type, value] of [
        [EXTRACTABLE, YES],
        [SENSITIVE, NO],
      ] as const) {
        shim.setRules({ attributes: [{ type, value }] });
        await leavesNothing(create);
      }
      shim.setRules(weak('C_CreateObject'));
      const fault = shim.addFault({ in: 'C_SetAttributeValue', does: { return: 0x10 } });
      await leavesNothing(create);
      fault.withdraw();
    });

    test('a key that was good and could leave the token by now is not used', async () => {
      const { token, shim } = under;
      const { tokenId } = await make('EC-P256', 'sign');
      shim.setRules({ attributes: [{ type: EXTRACTABLE, value: YES }] });
      await rejectsWith(token.sign(tokenId, 'ES256', randomBytes(32), callOf()), 'HSM_UNAVAILABLE');
    });

    /** The secret is made as a session object that may be read; as anything else it is not given out. */
    const otherSecrets = async (by: `C_${string}`, agree: () => Promise<Buffer>): Promise<void> => {
      const { shim } = under;
      assert.ok((await agree()).length > 0);
      for (const lie of [
        { in: by, type: TOKEN, value: YES },
        { in: by, type: SENSITIVE, value: YES },
      ]) {
        shim.setRules({ templates: [lie] });
        await leavesNothing(agree);
      }
      shim.setRules({ attributes: [{ type: TOKEN, value: YES }] });
      await leavesNothing(agree);
    };

    test('an agreed secret that was made otherwise is not given out, and not left', async () => {
      const { tokenId } = await make('EC-P256', 'encrypt');
      const ours = createECDH('prime256v1');
      ours.generateKeys();
      await otherSecrets('C_DeriveKey', () => under.token.ecdh(tokenId, ours.getPublicKey(), callOf()));
    });

    test('a decapsulated secret that was made otherwise is not given out, and not left', async (t) => {
      if (!under.token.canHold('ML-KEM-768', 'encrypt').ok) return t.skip('not in this token');
      const { tokenId } = await make('ML-KEM-768', 'encrypt');
      await otherSecrets('C_DecapsulateKey', () => under.token.decapsulate(tokenId, randomBytes(1088), callOf()));
    });
  });
};
