// Vendors' profiles as data: no rule without a source, and each module recognised as what it is.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Rule } from '../../../agent/token/profiles/profile.ts';
import { PROFILES, profileOf } from '../../../agent/token/profiles/vendors.ts';
import { IMPOSED, rulesOf } from '../../support/vendor-rules.ts';

const AES_GCM = 0x1087;
const AES_KEY_WRAP = 0x2109;

const isRule = (value: unknown): value is Rule<unknown> =>
  typeof value === 'object' && value !== null && 'is' in value && 'source' in value;

test('every rule of every profile says where it is known from', () => {
  for (const profile of PROFILES) {
    const rules = Object.entries(profile).filter(([, value]) => isRule(value));
    assert.ok(rules.length >= 10, `${profile.name} has ${rules.length} rules`);
    for (const [name, rule] of rules) assert.ok((rule as Rule<unknown>).source.length > 3, `${profile.name}: ${name}`);
  }
});

test('a module is recognised by the file name of its library, else by what CK_INFO says', () => {
  const names = ['luna', 'nshield', 'cloudhsm', 'azure-cloud', 'google', 'softhsm', 'nss', 'opencryptoki', 'tpm2'];
  for (const name of names) {
    const profile = PROFILES.find((row) => row.name === name) ?? assert.fail(name);
    for (const path of profile.libraries.is) assert.equal(profileOf('', path).name, name, path);
    assert.equal(profileOf(rulesOf(profile).manufacturer ?? '', '/opt/vendor/module.so').name, name);
  }
  assert.equal(profileOf('Some vendor', '/opt/vendor/module.so').name, 'generic');
});

test('every rule is imposed by the shim, or says why it is not', () => {
  for (const profile of PROFILES) {
    for (const [name, value] of Object.entries(profile)) {
      if (!isRule(value)) continue;
      const said = value.notImposed;
      assert.ok(IMPOSED.has(name) || said !== undefined, `${profile.name}: ${name} is neither imposed nor marked`);
      assert.ok(said === undefined || said.length > 5, `${profile.name}: ${name}`);
    }
  }
});

test('the rules of the shim are those of the profile: names, IVs, PINs, sessions, what is refused and what wraps', () => {
  for (const profile of PROFILES) {
    const { name, gcmIv, pin, sessions, refuses, wraps } = profile;
    const rules = rulesOf(profile);
    const [by] = gcmIv.is;
    assert.equal(by === undefined ? rules.hide?.includes(AES_GCM) : rules.iv?.by === by, true, name);
    assert.equal(rules.login?.form === 'colon', pin.is === 'user:password', name);
    assert.equal(rules.login?.form === 'ignored', pin.is === 'ignored', name);
    assert.equal(rules.readOnly !== undefined, sessions.is.readOnly === 'refused', name);
    for (const refused of refuses.is) assert.ok(rules.refuse?.includes(refused), `${name}: ${refused.in}`);
    const wrapRefused = (mechanism: number): boolean =>
      rules.refuse?.some((row) => row.in === 'C_WrapKey' && row.mechanism === mechanism) === true;
    if (wraps.is.length > 0) {
      assert.equal(wrapRefused(AES_KEY_WRAP), !wraps.is.includes('CKM_AES_KEY_WRAP'), name);
      assert.equal(wrapRefused(AES_GCM), !wraps.is.includes('CKM_AES_GCM'), name);
    }
  }
});

test('names of profiles are unique, and each can be imposed by the shim', () => {
  assert.equal(new Set(PROFILES.map(({ name }) => name)).size, PROFILES.length);
  for (const profile of PROFILES) assert.ok(rulesOf(profile).manufacturer !== undefined, profile.name);
});
