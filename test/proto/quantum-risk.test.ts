// The quantum risk of every algorithm of the table, by purpose.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ALGORITHMS, type Purpose } from '../../proto/documents/algorithms.ts';
import { quantumRisk } from '../../proto/documents/quantum-risk.ts';

const VULNERABLE = /^(RSA-\d+|EC-P\d+|Ed25519|X25519)$/;

test('classical public-key algorithms are at risk, by what they were used for; nothing else is', () => {
  let seen = 0;
  for (const { id, status, jose } of ALGORITHMS) {
    if (status === 'forbidden') continue;
    for (const purpose of Object.keys(jose) as Purpose[]) {
      seen += 1;
      const risk = quantumRisk(id, purpose);
      if (!VULNERABLE.test(id)) assert.equal(risk, 'none', id);
      else assert.equal(risk, purpose === 'encrypt' ? 'harvest-now' : 'forge-later', id);
    }
  }
  assert.ok(seen > 40, `saw only ${seen}`);
});

test('nothing is promised of what the table does not have or forbids', () => {
  assert.equal(quantumRisk('ROT-13', 'encrypt'), 'unknown');
  assert.equal(quantumRisk('RSA-1024', 'sign'), 'unknown');
});
