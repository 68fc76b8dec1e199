// The tables of the token room against their sources: the PKCS#11 headers and the algorithm table.
import assert from 'node:assert/strict';
import { createECDH } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import pkcs11js from 'pkcs11js';
import { CODES } from '../../../agent/errors.ts';
import { ABILITY_NAMES, type Ability, canHold, generating, needs } from '../../../agent/token/abilities.ts';
import { CKR, CKR_VALUES, ckrRow, codeOf, refusesPin } from '../../../agent/token/ckr.ts';
import { vendorEnvironment } from '../../../agent/token/environment.ts';
import { CURVES, isOnCurve } from '../../../agent/token/process/curves.ts';
import {
  assertAllowed,
  ForbiddenMechanism,
  MACS,
  MECHANISMS,
  mechanismName,
  mechanismNumber,
  SIGNATURES,
  USED_MECHANISMS,
  type Use,
} from '../../../agent/token/process/mechanisms.ts';
import { pointBytes } from '../../../agent/token/process/public-key.ts';
import { Refusal } from '../../../agent/token/process/refusal.ts';
import { planKey } from '../../../agent/token/process/templates.ts';
import { profileOf } from '../../../agent/token/profiles/vendors.ts';
import { FAILURE_CODES } from '../../../agent/token/requests.ts';
import { ALGORITHMS, type Purpose } from '../../../proto/documents/algorithms.ts';

const HEADER = join(import.meta.dirname, '../../../node_modules/pkcs11js/includes/pkcs11/pkcs11t.h');
const defines = (prefix: string): Map<string, number> =>
  new Map(
    [
      ...readFileSync(HEADER, 'utf8').matchAll(new RegExp(`#define\\s+(${prefix}\\w+)\\s+\\(?(0x[0-9A-Fa-f]+)`, 'g')),
    ].map((match) => [match[1] as string, Number(match[2])]),
  );

test('every CKR value of the header is in the table under its name', () => {
  const header = [...defines('CKR_')].filter(([name]) => name !== 'CKR_OK' && name !== 'CKR_VENDOR_DEFINED');
  assert.ok(header.length > 80, `only ${header.length} values in the header`);
  for (const [name, value] of header) assert.equal(ckrRow(value).name, name, `0x${value.toString(16)}`);
});

test('every row has a code that the protocol carries, and an unknown value closes the session', () => {
  for (const value of CKR_VALUES) {
    const row = ckrRow(value);
    assert.ok(FAILURE_CODES.has(row.code), `${row.name}: ${row.code}`);
    assert.ok(row.code in CODES);
  }
  for (const value of [0x80000004, 0x999, 0xffff_ffff]) {
    assert.partialDeepStrictEqual(ckrRow(value), { code: 'HSM_UNAVAILABLE', session: 'close' });
  }
  for (const [name, value] of Object.entries(CKR)) assert.equal(ckrRow(value).name, `CKR_${name}`);
});

test('data is wrong where a function says so that judged it; from another it is the token that is not well', () => {
  assert.equal(codeOf(0x40, 'C_Decrypt'), 'INVALID_CIPHERTEXT');
  assert.equal(codeOf(0x21, 'C_Sign'), 'INVALID_REQUEST');
  for (const method of ['C_SignInit', 'C_FindObjects', 'C_GenerateKey', 'C_GetAttributeValue']) {
    for (const value of CKR_VALUES) assert.ok(!codeOf(value, method).startsWith('INVALID_'), `${value} of ${method}`);
  }
});

test('every PIN error and every vendor value counts as a refused PIN', () => {
  for (const [name, value] of defines('CKR_')) if (name.startsWith('CKR_PIN_')) assert.ok(refusesPin(value), name);
  assert.ok(refusesPin(0x80000004));
  for (const value of [0x30, 0xe0, 0xb3]) assert.ok(!refusesPin(value));
});

test('every mechanism that the algorithm table names has its number, and a use', () => {
  const header = defines('CKM_');
  let seen = 0;
  for (const row of ALGORITHMS) {
    const wanted = [...Object.values(row.mechanisms).flat(), ...(row.generate === null ? [] : [row.generate])];
    for (const name of wanted) {
      seen += 1;
      assert.equal(typeof MECHANISMS[name], 'number', `${row.id}: ${name}`);
      assert.ok(USED_MECHANISMS.includes(name), `${row.id}: ${name} has no use`);
    }
  }
  assert.ok(seen > 20);
  let compared = 0;
  for (const [name, number] of Object.entries(MECHANISMS)) {
    assert.equal(mechanismNumber(name), number);
    assert.equal(mechanismName(number), name);
    const official = header.get(name);
    if (official === undefined) continue; // newer than the header: the Edwards curves
    compared += 1;
    assert.equal(number, official, name);
  }
  assert.ok(compared >= 15, `only ${compared} numbers compared`);
  assert.deepEqual([MECHANISMS['CKM_EC_EDWARDS_KEY_PAIR_GEN'], MECHANISMS['CKM_EDDSA']], [0x1055, 0x1057]);
  // PKCS #11 3.2, pkcs11t.h
  const later = ['CKM_ML_KEM_KEY_PAIR_GEN', 'CKM_ML_KEM', 'CKM_ML_DSA_KEY_PAIR_GEN', 'CKM_ML_DSA'];
  assert.deepEqual(
    later.map((name) => MECHANISMS[name]),
    [0x0f, 0x17, 0x1c, 0x1d],
  );
});

const USES: readonly Use[] = ['generate', 'generate-pair', 'sign', 'encrypt', 'decrypt', 'derive', 'decapsulate'];

test('forbidden mechanisms are refused for every use', () => {
  const forbidden = [
    'CKM_MD5_RSA_PKCS',
    'CKM_MD5_HMAC',
    'CKM_SHA1_RSA_PKCS',
    'CKM_SHA1_RSA_PKCS_PSS',
    'CKM_ECDSA_SHA1',
    'CKM_SHA_1_HMAC',
    'CKM_DES_KEY_GEN',
    'CKM_DES3_KEY_GEN',
    'CKM_DES3_CBC',
    'CKM_RC4',
    'CKM_AES_ECB',
    'CKM_RSA_X9_31',
  ];
  for (const name of forbidden) {
    const number = mechanismNumber(name);
    assert.ok(number !== undefined, name);
    for (const use of USES) {
      assert.throws(
        () => assertAllowed(use, number),
        { name: 'ForbiddenMechanism', message: /is forbidden/ },
        `${name} ${use}`,
      );
    }
  }
});

test('what is not in the table is refused for every use, and what is in it for every other use', () => {
  const rsaEncryption: [Use, string][] = [
    ['encrypt', 'CKM_RSA_PKCS'],
    ['decrypt', 'CKM_RSA_PKCS'], // RSA1_5
    ['sign', 'CKM_RSA_X_509'],
    ['encrypt', 'CKM_RSA_X_509'],
    ['sign', 'CKM_AES_GCM'],
  ];
  for (const [use, name] of rsaEncryption) {
    assert.throws(() => assertAllowed(use, MECHANISMS[name] as number), ForbiddenMechanism, `${name} to ${use}`);
  }
  const known = new Set(Object.values(MECHANISMS));
  let refused = 0;
  for (const [name, number] of Object.entries(pkcs11js)) {
    if (!name.startsWith('CKM_') || typeof number !== 'number' || known.has(number)) continue;
    for (const use of USES) assert.throws(() => assertAllowed(use, number), ForbiddenMechanism, name);
    refused += 1;
  }
  assert.ok(refused > 200, `only ${refused} mechanisms looked at`);
});

test('every JOSE name of an algorithm that a token holds is made by some scheme, and nothing else is', () => {
  // Composites by the schemes of their halves.
  const inToken = ALGORITHMS.filter((row) => row.custody.includes('hsm') && row.components === undefined);
  const signing = new Set(inToken.flatMap((row) => row.jose.sign ?? []));
  const macs = new Set(inToken.flatMap((row) => row.jose.mac ?? []));
  assert.deepEqual(Object.keys(SIGNATURES).sort(), [...signing].sort());
  assert.deepEqual(Object.keys(MACS).sort(), [...macs].sort());
});

const names = { id: Buffer.alloc(16, 1), label: Buffer.from('x'), onToken: true };

test('every key is planned sensitive, not extractable, and for one purpose', () => {
  for (const row of ALGORITHMS.filter((one) => one.custody.includes('hsm') && one.components === undefined)) {
    for (const purpose of Object.keys(row.jose) as Purpose[]) {
      const plan = planKey(row.id, purpose, names);
      assert.equal(plan.mustBe.get(pkcs11js.CKA_SENSITIVE), true);
      assert.equal(plan.mustBe.get(pkcs11js.CKA_EXTRACTABLE), false);
      const signs = plan.mustBe.get(pkcs11js.CKA_SIGN);
      const decrypts = plan.mustBe.get(pkcs11js.CKA_DECRYPT);
      assert.ok(!(signs === true && decrypts === true), `${row.id} for ${purpose} signs and decrypts`);
      assert.equal(plan.mustBe.get(pkcs11js.CKA_UNWRAP), false);
    }
  }
});

test('forbidden, unknown and wrong-purpose keys are not planned', () => {
  for (const row of ALGORITHMS.filter((one) => one.status === 'forbidden')) {
    for (const purpose of ['encrypt', 'sign', 'mac'] as const) {
      assert.throws(() => planKey(row.id, purpose, names), { name: 'Refusal', code: 'ALGORITHM_FORBIDDEN' }, row.id);
    }
  }
  for (const [id, purpose] of [
    ['AES-256', 'sign'],
    ['RSA-1536x', 'sign'],
    ['toString', 'sign'],
  ] as const) {
    assert.throws(() => planKey(id, purpose, names), Refusal, id);
  }
});

test('what an algorithm needs are abilities that exist, and all are needed for it to be held', () => {
  for (const row of ALGORITHMS.filter((one) => one.custody.includes('hsm'))) {
    for (const purpose of Object.keys(row.jose) as Purpose[]) {
      const needed = needs(row.id, purpose) ?? assert.fail(`${row.id} for ${purpose} needs nothing`);
      const made = row.components === undefined ? [row.id] : Object.values(row.components);
      assert.ok(made.every((id) => needed.includes(generating(id))) && needed.length > made.length);
      for (const name of needed) assert.ok(ABILITY_NAMES.includes(name), name);
      const all = new Map<string, Ability>(needed.map((name) => [name, { name, ok: true }]));
      assert.deepEqual(canHold(all, row.id, purpose), { ok: true });
      for (const name of needed) {
        const lacking = canHold(new Map(all).set(name, { name, ok: false, why: 'broken' }), row.id, purpose);
        assert.deepEqual(lacking, { ok: false, why: `${name}: broken` });
      }
      assert.equal(canHold(new Map(), row.id, purpose).ok, false);
    }
  }
});

test('points of node:crypto are on their curve, changed ones are not', () => {
  for (const row of CURVES) {
    const name = { 'P-256': 'prime256v1', 'P-384': 'secp384r1', 'P-521': 'secp521r1' }[row.crv];
    for (let round = 0; round < 10; round += 1) {
      const point = createECDH(name).generateKeys();
      assert.ok(isOnCurve(row, point));
      const changed = Buffer.from(point);
      changed[row.bytes] = (changed[row.bytes] as number) ^ 1;
      assert.ok(!isOnCurve(row, changed));
      assert.ok(!isOnCurve(row, point.subarray(1)));
    }
    const zero = Buffer.alloc(1 + 2 * row.bytes);
    zero[0] = 4;
    assert.ok(!isOnCurve(row, zero));
    assert.ok(!isOnCurve(row, Buffer.concat([Buffer.of(4), Buffer.alloc(2 * row.bytes, 0xff)])), 'coordinates above p');
  }
});

test('a public point is taken raw or as DER OCTET STRING', () => {
  const raw = Buffer.alloc(133, 7);
  assert.ok(pointBytes(raw, 133).equals(raw));
  assert.ok(pointBytes(Buffer.concat([Buffer.of(4, 0x81, 133), raw]), 133).equals(raw));
  const short = Buffer.alloc(32, 7);
  assert.ok(pointBytes(Buffer.concat([Buffer.of(4, 32), short]), 32).equals(short));
  for (const wrong of [Buffer.alloc(31), Buffer.alloc(34, 9), Buffer.concat([Buffer.of(4, 33), short])]) {
    assert.throws(() => pointBytes(wrong, 32), Refusal);
  }
});

test('only variables of vendors reach the token process', () => {
  const environment = vendorEnvironment({
    SOFTHSM2_CONF: 'a',
    TPM2_PKCS11_STORE: 'b',
    PKCS11_PIN: 'c',
    PKCS11_PIN_FILE: 'd',
    NODE_OPTIONS: 'e',
    LD_PRELOAD: 'f',
    MORTISE_DATA_DIR: 'g',
    HOME: undefined,
  });
  assert.deepEqual(environment, { SOFTHSM2_CONF: 'a', TPM2_PKCS11_STORE: 'b' });
});

test('SoftHSM has its profile, everything else the careful one', () => {
  assert.equal(profileOf('SoftHSM', '').name, 'softhsm');
  assert.deepEqual(profileOf('Some vendor', '').name, 'generic');
  assert.equal(profileOf('Some vendor', '').generalErrorMeansInvalid, false);
});
