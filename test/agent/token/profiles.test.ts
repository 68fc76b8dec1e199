// Vendors' profiles as data: no rule without a source, and each module recognised as what it is.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Rule } from '../../../agent/token/profiles/profile.ts';
import { PROFILES, profileOf } from '../../../agent/token/profiles/vendors.ts';
import { rulesOf } from '../../support/vendor-rules.ts';

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

test('names of profiles are unique, and each can be imposed by the shim', () => {
  assert.equal(new Set(PROFILES.map(({ name }) => name)).size, PROFILES.length);
  for (const profile of PROFILES) assert.ok(rulesOf(profile).manufacturer !== undefined, profile.name);
});
