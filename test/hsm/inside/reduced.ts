// A module on which no agent starts, inside a Debian root: that the agent says what is missing, and what of the token's
// abilities its process proves all the same. Left for the matrix in /mnt.
import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { test } from 'node:test';
import { needs } from '../../../agent/token/abilities.ts';
import { vendorEnvironment } from '../../../agent/token/environment.ts';
import { inspectToken } from '../../../agent/token/inspect.ts';
import { makeAgentPolicy, makeIssuer, startAgent } from '../../support/agent.ts';
import type { SoftHsm } from '../../support/softhsm.ts';
import { type Outcome, USES } from '../outcomes.ts';

const {
  MODULE_LIBRARY = '',
  MODULE_LABEL = '',
  MODULE_PIN_FILE = '',
  MODULE_LACKS = '',
  MODULE_DISABLED = '',
} = process.env;
const env = vendorEnvironment(process.env);

test('no agent starts on it, and it says what is missing', async () => {
  const issuer = makeIssuer();
  const policy = await makeAgentPolicy(issuer);
  const target = { library: MODULE_LIBRARY, label: MODULE_LABEL, pinFile: MODULE_PIN_FILE, env };
  const token = { ...target, dispose: async () => {} } as unknown as SoftHsm;
  await using agent = await startAgent({
    shared: { token, issuer, policy },
    started: false,
    env: { PKCS11_DISABLED_MECHANISMS: MODULE_DISABLED },
  });
  agent.spawn();
  const line = await agent.logged((row) => row.level !== 'info' && new RegExp(MODULE_LACKS).test(JSON.stringify(row)));
  console.log(JSON.stringify(line));
  await agent.end();
  assert.ok(!agent.logs.some(({ msg }) => msg === 'agent is READY'));
  await policy.remove();
});

test('its process proves what it can all the same', async () => {
  const inspected = await inspectToken({
    library: MODULE_LIBRARY,
    tokenLabel: MODULE_LABEL,
    pin: async () => Buffer.from(readFileSync(MODULE_PIN_FILE, 'utf8').trim()),
    sessions: 1,
    disabledMechanisms: MODULE_DISABLED.split(',').filter(Boolean),
    acquireTimeoutMs: 30_000,
    environment: env,
  });
  assert.ok(inspected.ok, inspected.ok ? '' : inspected.message);
  const able = new Map(inspected.abilities.map((row) => [row.name, row]));
  for (const { name, ok, why = '' } of inspected.abilities) console.log(ok ? 'can' : 'cannot', name, why);
  const outcomes = USES.map((use): Outcome => {
    const lacking = (needs(use.algorithm, use.purpose) ?? ['a token object']).filter(
      (name) => able.get(name)?.ok !== true,
    );
    if (lacking.length === 0) return { ...use, seen: 'hsm' };
    return { ...use, seen: 'refused', why: lacking.join(', ') };
  });
  assert.ok(
    outcomes.some(({ seen }) => seen === 'hsm'),
    'it can do nothing at all',
  );
  assert.match(inspected.info.wrapping, /^none: .*aes-gcm: /);
  writeFileSync('/mnt/seen.json', JSON.stringify({ starts: false, wraps: 'none', outcomes }));
});
