// Every return value of PKCS#11, and one of a vendor, once from every function that an operation goes through, under load of
// two tenants while a third is on a token of its own. Through the shim, not on hardware.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { CKR_VALUES, ckrRow } from '../../agent/token/ckr.ts';
import type { FunctionName } from '../support/pkcs11-shim.ts';
import { BEHIND_SHIM, RETRYABLE, startFaultStand } from './support/fault-stand.ts';

const VENDOR = 0x8000_0042;
/** Functions, and whether they are told apart by their key: those of self-tests are let pass. */
const FUNCTIONS: readonly (readonly [name: FunctionName, stored: boolean])[] = [
  ['C_SignInit', true],
  ['C_Sign', true],
  ['C_EncryptInit', true],
  ['C_Encrypt', true],
  ['C_DecryptInit', true],
  ['C_Decrypt', true],
  ['C_DeriveKey', false],
  ['C_GenerateRandom', false],
];
/** What a caller is told where a token says that a ciphertext, or a wrapped key under it, is wrong. */
const OF_CIPHERTEXT = ['INVALID_CIPHERTEXT', 'KEY_STATE'];
const saidOf = (name: string, { name: ckr, code }: ReturnType<typeof ckrRow>): readonly string[] => {
  if (!name.startsWith('C_Decrypt')) return [code];
  // SoftHSM says CKR_GENERAL_ERROR of a wrong tag.
  const isOfData = code === 'INVALID_CIPHERTEXT' || code === 'INVALID_REQUEST' || ckr === 'CKR_GENERAL_ERROR';
  return isOfData ? [code, ...OF_CIPHERTEXT] : [code];
};
const PATIENCE_MS = 30_000;

let stand: Awaited<ReturnType<typeof startFaultStand>>;
before(async () => {
  stand = await startFaultStand();
});
after(async () => {
  await stand?.[Symbol.asyncDispose]();
});

const until = async (done: () => boolean, what: string): Promise<void> => {
  for (let waited = 0; !done(); waited += 5) {
    if (waited > PATIENCE_MS) throw new Error(`waited ${PATIENCE_MS} ms for ${what}`);
    await sleep(5);
  }
};

for (const [name, stored] of FUNCTIONS) {
  test(`${name} returns each of ${CKR_VALUES.length + 1} values once`, async () => {
    let before: readonly string[] = [];
    for (const ckr of [...CKR_VALUES.filter((value) => value !== 0), VENDOR]) {
      const row = ckrRow(ckr);
      const what = `${row.name} of ${name}`;
      const from = BEHIND_SHIM.map((tenant) => stand.answers[tenant].length);
      const fault = stand.shim.addFault({ in: name, times: 1, stored, does: { return: ckr } });
      await until(() => fault.fired() > 0, `${what} to be met`);
      await stand.more(1);
      fault.withdraw();
      const expected = saidOf(name, row);
      const allowed = new Set<string>([...RETRYABLE, ...before, ...expected]); // an answer may come after the next fault was made
      BEHIND_SHIM.forEach((tenant, at) => {
        const told = new Set(stand.answers[tenant].slice(from[at]).map(({ outcome }) => outcome));
        for (const code of told) {
          assert.ok(allowed.has(code), `${what}: ${tenant} was told ${code}, not ${row.code}`);
        }
      });
      before = expected;
    }
  });
}

test('in the end: every answer is in the trail once, the logs verify, and the other tenant saw nothing', () =>
  stand.settle());
