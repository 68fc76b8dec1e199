// Every return value of PKCS#11, and one of a vendor, once from every function that an operation, a creation or a login goes
// through, under load of two tenants while a third is on a token of its own. Groups of functions run side by side, each with an
// agent of its own. Through the shim, not on hardware.
import assert from 'node:assert/strict';
import { generateKeyPairSync } from 'node:crypto';
import { writeFile } from 'node:fs/promises';
import { after, before, describe, test } from 'node:test';
import { CompactEncrypt, importJWK } from 'jose';
import { CKR, refusesPin } from '../../agent/token/ckr.ts';
import type { Fault } from '../support/pkcs11-shim.ts';
import { returnEach, type Told, toldText, until, VALUES, type Way } from './support/ckr-campaign.ts';
import { type Stand, startFaultStand } from './support/fault-stand.ts';

let made = 0;
const nextId = (): string => {
  made += 1;
  return `made-${made}`;
};
const creating =
  (algorithm: string, purpose: 'encrypt' | 'sign') =>
  (stand: Stand): Promise<string> =>
    stand.once('acme', 'create-key', (client, correlationId) =>
      client.keys.create({ keyId: nextId(), purpose, algorithm }, { correlationId }),
    );

/** A key made elsewhere, in the form in which the agent takes it. */
const importing = async (stand: Stand): Promise<string> => {
  const { publicJwk } = await stand.patient.acme.keys.importKey();
  const { alg = '', kid = '' } = publicJwk;
  const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const wrappedKey = await new CompactEncrypt(Buffer.from(JSON.stringify(privateKey.export({ format: 'jwk' }))))
    .setProtectedHeader({ alg, enc: 'A256GCM', kid, cty: 'jwk+json' })
    .encrypt(await importJWK(publicJwk, alg));
  return stand.once('acme', 'import-key', (client, correlationId) =>
    client.keys.import({ keyId: nextId(), purpose: 'sign', algorithm: 'EC-P256', wrappedKey }, { correlationId }),
  );
};

/** A signature fails such that its worker closes the session, opens another for the next call and looks for its keys again. */
const losingSession = async (stand: Stand): Promise<void> => {
  const fault = stand.shim.addFault({ in: 'C_Sign', stored: true, does: { return: CKR.GENERAL_ERROR }, times: 1 });
  await until(() => fault.fired() > 0, 'a signature to fail');
  fault.withdraw();
};

/** A new process logs in. Where that counts as a refusal the PIN is replaced, for it is not tried again. */
const loggingIn = async (stand: Stand, ckr: number): Promise<void> => {
  const [from, logins] = [stand.agent.logs.length, stand.shim.calls('C_Login')];
  stand.killToken();
  if (refusesPin(ckr) && ckr !== 0x100) {
    await stand.agent.logged(({ msg }) => msg.startsWith('token refused the PIN'), from);
    assert.equal(stand.shim.calls('C_Login'), logins + 1, 'the PIN was tried again');
    const pin = `rotated-${stand.shim.calls('C_Login')}`;
    stand.shim.changePin(pin);
    await writeFile(stand.hsm.pinFile, `${pin}\n`, { mode: 0o600 });
    process.kill(stand.agent.pid, 'SIGHUP');
  }
  await stand.logged('token is ready', from);
};

const IN_A_CREATION = { act: creating('AES-256', 'encrypt'), also: ['HSM_UNSUPPORTED'] } as const;
type StandOptions = NonNullable<Parameters<typeof startFaultStand>[0]>;

/** Without AES-GCM, key material is wrapped by the next scheme. Nothing else that runs decrypts in the token then. */
const WITHOUT_GCM: Readonly<Record<string, StandOptions>> = {
  'wrapping by AES-CBC and HMAC': { disabledMechanisms: ['CKM_AES_GCM'], sealing: ['agreed'] },
  'wrapping by AES-KWP': { disabledMechanisms: ['CKM_AES_GCM', 'CKM_AES_CBC_PAD'], sealing: ['agreed'] },
};
const WRAPPING = { stored: true, act: creating('ML-DSA-44', 'sign') } as const;
const GROUPS: Readonly<Record<string, readonly Way[]>> = {
  'the use of a key': [
    { name: 'C_SignInit', stored: true },
    { name: 'C_Sign', stored: true },
    { name: 'C_EncryptInit', stored: true },
    { name: 'C_Encrypt', stored: true },
    { name: 'C_DecryptInit', stored: true },
    { name: 'C_Decrypt', stored: true },
    { name: 'C_DeriveKey' },
    { name: 'C_DestroyObject' }, // of the secret that was agreed on
    { name: 'C_GenerateRandom' },
  ],
  'creation, import and search': [
    { name: 'C_GenerateKey', stored: true, ...IN_A_CREATION },
    { name: 'C_GenerateKeyPair', stored: true, act: creating('EC-P256', 'sign') },
    { name: 'C_CreateObject', stored: true, act: importing },
    { name: 'C_FindObjectsInit', ...IN_A_CREATION },
    { name: 'C_FindObjects', ...IN_A_CREATION },
    { name: 'C_FindObjectsFinal', ...IN_A_CREATION },
    { name: 'C_GetAttributeValue', ...IN_A_CREATION },
  ],
  'sessions and logins': [
    { name: 'C_OpenSession', act: losingSession },
    { name: 'C_CloseSession', act: losingSession },
    { name: 'C_Login', act: loggingIn },
  ],
  'wrapping by AES-CBC and HMAC': [
    { name: 'C_EncryptInit', ...WRAPPING },
    { name: 'C_Encrypt', ...WRAPPING },
    { name: 'C_DecryptInit', stored: true },
    { name: 'C_Decrypt', stored: true },
  ],
  'wrapping by AES-KWP': [
    { name: 'C_WrapKey', ...WRAPPING },
    { name: 'C_UnwrapKey', stored: true },
  ],
};
const WRAPS_KEYS = 'wrapping by AES-KWP';

/** Counts the calls that wrap and unwrap by a key of the token, which those of self-tests are not. */
const watchWraps = ({ shim }: Stand): readonly Fault[] =>
  (['C_WrapKey', 'C_UnwrapKey'] as const).map((name) =>
    shim.addFault({ in: name, stored: true, does: { delayMs: 0 } }),
  );

const counted = new Map<string, Told>();
const startedAt = performance.now();

describe('each return value once', { concurrency: true }, () => {
  for (const [group, ways] of Object.entries(GROUPS)) {
    describe(group, { concurrency: 1 }, () => {
      let watched: readonly Fault[] = [];
      let stand: Awaited<ReturnType<typeof startFaultStand>>;
      before(async () => {
        stand = await startFaultStand({ pauseMs: 100, recoverySeconds: 1, ...WITHOUT_GCM[group] });
        if (group !== WRAPS_KEYS) watched = watchWraps(stand);
      });
      after(async () => {
        await stand?.[Symbol.asyncDispose]();
      });
      for (const way of ways) {
        test(`${way.name} returns each of ${VALUES.length} values once`, async (t) => {
          const told = await returnEach(stand, way);
          counted.set(`${way.name} in ${group}`, told);
          t.diagnostic(`${way.name}: ${VALUES.length} values; callers were told ${toldText(told)}`);
        });
      }
      test('every answer is in the trail once, the logs verify, the agent is the same process, the other tenant saw nothing', async (t) => {
        await stand.settle();
        t.diagnostic(`${group}: ${Object.values(stand.answers).flat().length} answers, each in the trail once`);
        const wraps = watched.map((calls) => calls.fired());
        assert.ok(
          wraps.every((count) => count === 0),
          'they are called outside of self-tests, so they belong here',
        );
      });
    });
  }
});

test('all of it was run', (t) => {
  const runs = Object.values(GROUPS).flat().length;
  assert.equal(counted.size, runs);
  const seconds = Math.round((performance.now() - startedAt) / 1000);
  t.diagnostic(
    `${runs} runs of a function × ${VALUES.length} values = ${runs * VALUES.length} returned, in ${seconds} s`,
  );
});
