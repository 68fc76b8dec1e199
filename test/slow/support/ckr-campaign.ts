// Every return value of PKCS#11, and one of a vendor, once from a function, under load: who was told what is counted and
// held against the table of agent/token/ckr.ts.
import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import { CKR_VALUES, ckrRow, codeOf } from '../../../agent/token/ckr.ts';
import type { FunctionName } from '../../support/pkcs11-shim.ts';
import { BEHIND_SHIM, RETRYABLE, type Stand } from './fault-stand.ts';

const VENDOR = 0x8000_0042;
export const VALUES: readonly number[] = [...CKR_VALUES.filter((value) => value !== 0), VENDOR];

/** A function, and how calls of it come about. */
export interface Way {
  readonly name: FunctionName;
  /** Only with keys that are token objects: calls of self-tests are let pass. */
  readonly stored?: true;
  /** Has the function called, where the load does not; gives the outcome if it was a caller's. */
  readonly act?: (stand: Stand, ckr: number) => Promise<unknown>;
  /** What a caller may be told besides what the table says. */
  readonly also?: readonly string[];
}

const PATIENCE_MS = 30_000;
export const until = async (done: () => boolean, what: string): Promise<void> => {
  for (let waited = 0; !done(); waited += 5) {
    if (waited > PATIENCE_MS) throw new Error(`waited ${PATIENCE_MS} ms for ${what}`);
    await sleep(5);
  }
};

/** What a caller is told where a token says that a ciphertext, or a wrapped key under it, is wrong. */
const OF_CIPHERTEXT = ['INVALID_CIPHERTEXT', 'KEY_STATE'];
const saidOf = ({ name, also = [] }: Way, ckr: number): readonly string[] => {
  const code = codeOf(ckr, name);
  // SoftHSM says CKR_GENERAL_ERROR of a wrong tag.
  const isOfData =
    code.startsWith('INVALID_') || (name.startsWith('C_Decrypt') && ckrRow(ckr).name === 'CKR_GENERAL_ERROR');
  return isOfData ? [code, ...OF_CIPHERTEXT, ...also] : [code, ...also];
};

/** How many answers bore each code while the values of one function were returned. */
export type Told = ReadonlyMap<string, number>;

/** Returns each value once. An answer may come after the next fault was made, so what the one before allows is allowed too. */
export const returnEach = async (stand: Stand, way: Way): Promise<Told> => {
  const told = new Map<string, number>();
  let before: readonly string[] = [];
  for (const ckr of VALUES) {
    const what = `${ckrRow(ckr).name} of ${way.name}`;
    const from = BEHIND_SHIM.map((tenant) => stand.answers[tenant].length);
    const stored = way.stored !== undefined && { stored: way.stored };
    const fault = stand.shim.addFault({ in: way.name, times: 1, ...stored, does: { return: ckr } });
    await Promise.all([until(() => fault.fired() > 0, `${what} to be met`), way.act?.(stand, ckr)]);
    await stand.more(1);
    assert.equal(fault.fired(), 1, `${what} was not returned once`);
    fault.withdraw();
    const expected = saidOf(way, ckr);
    const allowed = new Set<string>([...RETRYABLE, ...before, ...expected]);
    BEHIND_SHIM.forEach((tenant, at) => {
      for (const { outcome, operation } of stand.answers[tenant].slice(from[at])) {
        told.set(outcome, (told.get(outcome) ?? 0) + 1);
        assert.ok(allowed.has(outcome), `${what}: ${tenant} was told ${outcome} by ${operation}, not ${expected}`);
      }
    });
    before = expected;
  }
  return told;
};

export const toldText = (told: Told): string =>
  [...told]
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([code, times]) => `${code} ${times}`)
    .join(', ');
