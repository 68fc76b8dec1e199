// The conformance suite once for each vendor's profile, through the module of test/hsm/shim, which imposes the profile's
// rules on SoftHSM. Tested against the shim's rules, not the hardware.
import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { AgentError } from '../../agent/errors.ts';
import type { VendorProfile } from '../../agent/token/profiles/profile.ts';
import { PROFILES } from '../../agent/token/profiles/vendors.ts';
import { openToken } from '../../agent/token/token.ts';
import { callOf } from '../contract/token.ts';
import { makeAgentPolicy, makeIssuer, startAgent } from '../support/agent.ts';
import { makePkcs11Shim, type Pkcs11Shim } from '../support/pkcs11-shim.ts';
import { makeSoftHsm, type SoftHsm } from '../support/softhsm.ts';
import { recordTokenEvents, softHsmOptions } from '../support/token.ts';
import { loseAs, pinFor, rulesOf } from '../support/vendor-rules.ts';
import { conformance, type Target } from './conformance.ts';
import type { Use } from './outcomes.ts';

const opened: { hsm: SoftHsm; shim: Pkcs11Shim }[] = [];
after(async () => {
  for (const { hsm, shim } of opened) {
    shim.close();
    await hsm.dispose();
  }
});

const standOf = async (profile: VendorProfile): Promise<{ readonly hsm: SoftHsm; readonly shim: Pkcs11Shim }> => {
  const hsm = await makeSoftHsm();
  const options = { folder: join(hsm.folder, 'shim'), real: hsm.library, pin: hsm.pin, rules: rulesOf(profile) };
  const shim = await makePkcs11Shim(options);
  opened.push({ hsm, shim });
  return { hsm, shim };
};

const targetOf = async (profile: VendorProfile): Promise<Target & { readonly shim: Pkcs11Shim }> => {
  const { hsm, shim } = await standOf(profile);
  await writeFile(hsm.pinFile, `${pinFor(profile, hsm.pin)}\n`, { mode: 0o600 });
  return { library: shim.library, label: hsm.label, pinFile: hsm.pinFile, env: hsm.env, shim };
};

/** One use of each kind: what is slow is slow outside of the token, or in it everywhere alike. */
const KINDS =
  /^(AES-256|RSA-2048|EC-P(256|384)|Ed25519|HMAC-SHA256|ML-KEM-768|ML-KEM-768-P256|ML-KEM-768-RSA2048|ML-DSA-65|ML-DSA-65-ES256)$/;
const only = ({ algorithm }: Use): boolean => KINDS.test(algorithm);

/** What the rules of a profile leave no way to. */
const REFUSES: Readonly<Record<string, (use: Use) => boolean>> = {
  cloudhsm: ({ algorithm, purpose }) => algorithm.startsWith('EC-') && purpose === 'encrypt',
  'luna-fips-before-7.9.3': ({ algorithm }) => algorithm.startsWith('AES-'),
};
/** What the log names at start, beside what SoftHSM itself lacks. */
const LACKS: Readonly<Record<string, RegExp>> = {
  cloudhsm: /ecdh-p256: .*CKR_MECHANISM_PARAM_INVALID/,
  'luna-fips-before-7.9.3': /aes-gcm: iv caller: .*; iv appended: .*CKR_MECHANISM_PARAM_INVALID/,
};
/** Those without what an agent cannot do without, and what it names. */
const WITHOUT: Readonly<Record<string, RegExp>> = {
  google: /generate-/,
  tpm2: /generate-/,
};

for (const profile of PROFILES) {
  const missing = WITHOUT[profile.name];
  if (missing === undefined) {
    const refuses = REFUSES[profile.name];
    const lacks = LACKS[profile.name] ?? /ml-dsa-65: /;
    conformance({ name: profile.title, target: () => targetOf(profile), only, lacks, ...(refuses && { refuses }) });
    continue;
  }
  test(`no agent starts on ${profile.title}, and it says what is missing`, async () => {
    const issuer = makeIssuer();
    const policy = await makeAgentPolicy(issuer);
    const { shim, ...target } = await targetOf(profile);
    const token = { ...target, dispose: async () => {} } as unknown as SoftHsm;
    await using agent = await startAgent({ shared: { token, issuer, policy }, started: false });
    agent.spawn();
    await agent.logged((line) => line.level !== 'info' && missing.test(JSON.stringify(line)));
    await agent.end();
    assert.ok(!agent.logs.some(({ msg }) => msg === 'agent is READY'));
    assert.ok(shim.calls('C_Login') <= 1, 'the PIN was tried more than once');
    await policy.remove();
  });
}

for (const profile of PROFILES.filter(({ loss }) => loss.notImposed === undefined)) {
  const { codes, recovers } = profile.loss.is;
  const by = recovers === 'initialise' ? 'C_Initialize' : 'a new session';
  test(`${profile.title}: calls are served after each loss that it is known for, which ${by} alone heals`, async () => {
    const { hsm, shim } = await standOf(profile);
    const { events } = recordTokenEvents();
    const pin = async (): Promise<Buffer> => Buffer.from(pinFor(profile, hsm.pin));
    await using token = await openToken({ ...softHsmOptions(hsm, events), library: shim.library, pin });
    const { tokenId } = await token.generate({ algorithm: 'EC-P256', purpose: 'sign', label: 'lost' }, callOf());
    for (const ckr of codes) {
      await token.sign(tokenId, 'ES256', Buffer.alloc(32), callOf());
      loseAs(profile, ckr, shim);
      const served = (): Promise<boolean> =>
        token.sign(tokenId, 'ES256', Buffer.alloc(32), callOf()).then(
          () => true,
          (error: unknown) => {
            assert.ok(error instanceof AgentError && error.code === 'HSM_UNAVAILABLE', String(error));
            return false;
          },
        );
      for (let tries = 0; !(await served()); tries += 1)
        assert.ok(tries < 50, `not served after 0x${ckr.toString(16)}`);
    }
  });
}
