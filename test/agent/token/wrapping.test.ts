// Key material wrapped by SoftHSM by every scheme: which one is a matter of what the token was found to do.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { promisify } from 'node:util';
import { lacking } from '../../../agent/token/abilities.ts';
import { openToken, type Token } from '../../../agent/token/token.ts';
import { schemeOfKey, type WrapScheme } from '../../../proto/documents/wrap-schemes.ts';
import { callOf, rejectsWith } from '../../contract/token.ts';
import { wrappingContract } from '../../contract/token-wrapping.ts';
import { makePkcs11Shim, type Pkcs11Shim, type ShimRules } from '../../support/pkcs11-shim.ts';
import { makeSoftHsm, type SoftHsm } from '../../support/softhsm.ts';
import { openSoftHsmToken, recordTokenEvents, softHsmOptions } from '../../support/token.ts';

const GCM = 0x1087;
const CBC_PAD = 0x1085;
const KEY_WRAP_PAD = 0x210a;
const MECHANISM_INVALID = 0x70;

/** What a token is without when it falls to this scheme. */
const WITHOUT: Readonly<Record<WrapScheme, readonly string[]>> = {
  'aes-gcm': [],
  'aes-cbc-hmac': ['CKM_AES_GCM'],
  'aes-kwp': ['CKM_AES_GCM', 'CKM_AES_CBC_PAD'],
  'aes-kw': ['CKM_AES_GCM', 'CKM_AES_CBC_PAD', 'CKM_AES_KEY_WRAP_PAD'],
};

/** RSA is the slow part of a start. */
const QUICK = 'CKM_RSA_PKCS_KEY_PAIR_GEN';

let hsm: SoftHsm;
const openWithout = (mechanisms: readonly string[]): Promise<Token> =>
  openSoftHsmToken(hsm, { disabledMechanisms: [...mechanisms, QUICK] });

before(async () => {
  hsm = await makeSoftHsm();
});
after(() => hsm?.dispose());

for (const [scheme, disabledMechanisms] of Object.entries(WITHOUT)) {
  describe(`a token without ${disabledMechanisms.join(', ') || 'want'}`, () => {
    let token: Token;
    before(async () => {
      token = await openWithout(disabledMechanisms);
    });
    after(() => token?.close());
    wrappingContract(scheme as WrapScheme, () => token);

    test('wraps by its scheme alone, and says why', async () => {
      const { wrapping } = token.info();
      for (const name of disabledMechanisms.filter((one) => one !== 'CKM_AES_GCM'))
        assert.match(wrapping, new RegExp(name));
      assert.equal(wrapping.includes('aes-gcm'), disabledMechanisms.includes('CKM_AES_GCM'));
      const names = lacking(token.abilityReport()).flatMap(({ name }) => (/wrap|gcm/.test(name) ? [name] : []));
      assert.deepEqual(names, disabledMechanisms.includes('CKM_AES_GCM') ? ['aes-gcm'] : [], 'one way is enough');
      if (scheme === 'aes-gcm') return;
      const { tokenId } = await token.generateWrappingKey({ label: 'not for JOSE' }, callOf());
      const aad = Buffer.alloc(0);
      await rejectsWith(
        token.gcmEncrypt(tokenId, { iv: randomBytes(12), aad, data: aad }, callOf()),
        'HSM_UNSUPPORTED',
      );
    });
  });
}

test('a key wraps by its own scheme when the token has learned a better one, and not at all when it forgot it', async () => {
  const aad = Buffer.from('aad');
  const data = randomBytes(32);
  const made = new Map<string, Buffer>();
  for (const disabledMechanisms of Object.values(WITHOUT)) {
    await using token = await openWithout(disabledMechanisms);
    const { tokenId } = await token.generateWrappingKey({ label: 'kek' }, callOf());
    made.set(tokenId, await token.wrap(tokenId, { aad, data }, callOf()));
  }
  {
    await using token = await openWithout([]);
    for (const [tokenId, sealed] of made) {
      assert.deepEqual(await token.unwrap(tokenId, { aad, data: sealed }, callOf()), data);
      const again = await token.wrap(tokenId, { aad, data }, callOf());
      assert.equal(again.length, sealed.length, 'another scheme');
    }
    // Each wrap under the key of every other one: whatever the bytes are, one refusal.
    for (const [tokenId] of made) {
      for (const [other, sealed] of made) {
        if (other === tokenId) continue;
        await rejectsWith(token.unwrap(tokenId, { aad, data: sealed }, callOf()), 'INVALID_CIPHERTEXT');
      }
    }
  }
  await using token = await openWithout(WITHOUT['aes-kw']);
  for (const [tokenId, sealed] of made) {
    const opening = token.unwrap(tokenId, { aad, data: sealed }, callOf());
    if (schemeOfKey(tokenId) === 'aes-kw') assert.deepEqual(await opening, data);
    else
      await assert.rejects(opening, {
        code: 'HSM_UNSUPPORTED',
        message: /wraps by AES-256-(GCM|CBC|KWP).* does not do/,
      });
  }
});

test('a token that can wrap by no scheme says what each of them lacks', async () => {
  const disabledMechanisms = [...WITHOUT['aes-kw'], 'CKM_AES_KEY_WRAP'];
  await using token = await openWithout(disabledMechanisms);
  const message = /can wrap no keys.*aes-gcm: .*wrap-aes-cbc-hmac: .*wrap-aes-kwp: .*wrap-aes-kw: .*CKM_AES_KEY_WRAP$/;
  await assert.rejects(token.generateWrappingKey({ label: 'kek' }, callOf()), { code: 'HSM_UNSUPPORTED', message });
  assert.match(token.info().wrapping, /^none: aes-gcm: /);
  assert.equal(lacking(token.abilityReport()).filter(({ name }) => /wrap|gcm/.test(name)).length, 4);
});

test('opens the published blobs and refuses the others; wraps as RFC 3394 and RFC 5649 publish it', async () => {
  const vectors = join(import.meta.dirname, '../../vectors/wrapped-key/vectors.json');
  const { stdout } = await promisify(execFile)(
    process.execPath,
    [join(import.meta.dirname, 'wrap-vectors.ts'), hsm.library, hsm.pinFile, vectors],
    { env: { PATH: '/usr/bin:/bin', ...hsm.env }, timeout: 30_000 },
  );
  const { opened, refused, wraps, wrong } = JSON.parse(stdout) as Record<string, number> & { wrong: string[] };
  assert.deepEqual(wrong, []);
  assert.equal(wraps, 5);
  assert.ok(opened === 7 && (refused as number) >= 35, `${opened} opened, ${refused} refused`);
});

describe('rules of modules', () => {
  let shim: Pkcs11Shim;
  before(async () => {
    shim = await makePkcs11Shim({ folder: join(hsm.folder, 'shim'), real: hsm.library, pin: hsm.pin });
  });
  after(() => shim?.close());
  const open = (rules: ShimRules): Promise<Token> => {
    shim.setRules(rules);
    const pin = async (): Promise<Buffer> => Buffer.from(rules.login?.form === 'colon' ? `user:${hsm.pin}` : hsm.pin);
    const options = softHsmOptions(hsm, recordTokenEvents().events);
    return openToken({ ...options, library: shim.library, pin, disabledMechanisms: [QUICK] });
  };
  const wraps = async (token: Token): Promise<WrapScheme> => {
    const { tokenId } = await token.generateWrappingKey({ label: 'kek' }, callOf());
    const [aad, data] = [Buffer.from('aad'), randomBytes(64)];
    const sealed = await token.wrap(tokenId, { aad, data }, callOf());
    assert.deepEqual(await token.unwrap(tokenId, { aad, data: sealed }, callOf()), data);
    await token.destroy(tokenId, callOf());
    return schemeOfKey(tokenId);
  };
  const noGcm = { in: 'C_EncryptInit', mechanism: GCM, ckr: MECHANISM_INVALID } as const;

  test('a module that lists AES-GCM and refuses it wraps by the next scheme', async () => {
    await using token = await open({ refuse: [noGcm] });
    assert.ok(token.info().mechanisms.includes('CKM_AES_GCM'));
    assert.equal(await wraps(token), 'aes-cbc-hmac');
  });

  test('a module that also refuses AES-CBC falls to AES-KWP, and to AES-KW where it pads otherwise', async () => {
    const noCbc = { in: 'C_DecryptInit', mechanism: CBC_PAD, ckr: MECHANISM_INVALID } as const;
    {
      await using token = await open({ refuse: [noGcm, noCbc] });
      assert.equal(await wraps(token), 'aes-kwp');
      assert.match(
        token.info().wrapping,
        /^AES-256-KWP.*wrap-aes-cbc-hmac: CKM_AES_CBC_PAD: C_DecryptInit: CKR_MECHANISM_INVALID/,
      );
    }
    const noKwp = { in: 'C_WrapKey', mechanism: KEY_WRAP_PAD, ckr: MECHANISM_INVALID } as const;
    await using token = await open({ refuse: [noGcm, noCbc, noKwp] });
    assert.equal(await wraps(token), 'aes-kw');
  });

  test('mechanisms by which the profile wraps no keys are not tried', async () => {
    await using token = await open({ manufacturer: 'Amazon', login: { form: 'colon' }, refuse: [noGcm] });
    const report = new Map(token.abilityReport().map((row) => [row.name, row]));
    assert.match(report.get('wrap-aes-kw')?.why ?? '', /the profile cloudhsm does not wrap keys by CKM_AES_KEY_WRAP/);
    assert.equal(report.get('wrap-aes-cbc-hmac')?.ok, true);
  });

  test('a key that came to be unwrapped with other attributes than asked for is not read', async () => {
    const noCbc = { in: 'C_EncryptInit', mechanism: CBC_PAD, ckr: MECHANISM_INVALID } as const;
    const lies: ShimRules = {
      refuse: [noGcm, noCbc],
      templates: [{ in: 'C_UnwrapKey', type: 0x103, value: Buffer.of(1) }], // CKA_SENSITIVE
    };
    await using token = await open(lies);
    assert.match(token.info().wrapping, /^none: .*wrap-aes-kwp: .*made the secret with other attributes/);
  });
});
