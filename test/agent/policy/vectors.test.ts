// The published vectors: another implementation that passes these admits and refuses the same policies as the agent.
import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { admit } from '../../../agent/policy/admission.ts';
import { parsePolicy } from '../../../proto/documents/policy.ts';
import { POLICY_ERROR_CODES, PolicyError } from '../../../proto/documents/policy-error.ts';
import { verifyPolicy } from '../../../proto/documents/policy-sign.ts';
import type { PlatformPolicy } from '../../../proto/documents/policy-types.ts';
import { parseTrustAnchor } from '../../../proto/documents/trust-anchor.ts';
import type { PolicyVector } from '../../support/policy-vector.ts';

const FOLDER = join(import.meta.dirname, '..', '..', 'vectors', 'policy');
const read = (file: string): Buffer => readFileSync(join(FOLDER, file));

const cases = JSON.parse(read('cases.json').toString()) as PolicyVector[];
const anchor = parseTrustAnchor(read('trust-anchor.json'));
const platform = verifyPolicy(read('platform.json'), anchor).policy as PlatformPolicy;

const judge = ({ file, scope, now, floor }: PolicyVector): PolicyVector['expected'] => {
  try {
    const candidate = { scope, bytes: read(file), anchor, now: Date.parse(now), floor, platform };
    const { policy, digest, officers } = admit(candidate);
    return { accepted: true, version: policy.version, digest, officers };
  } catch (error) {
    assert.ok(error instanceof PolicyError, String(error));
    return { accepted: false, code: error.code, path: error.path };
  }
};

test('the vectors are all there', () => {
  const files = new Set(readdirSync(FOLDER));
  assert.ok(cases.length >= 20, `only ${cases.length} cases`);
  assert.ok(cases.filter(({ expected }) => expected.accepted).length >= 4);
  for (const { file, expected } of cases) {
    assert.ok(files.has(file), file);
    if (!expected.accepted) assert.ok((POLICY_ERROR_CODES as readonly string[]).includes(expected.code));
  }
  assert.deepEqual(parsePolicy(read('payload.json')), platform);
});

for (const vector of cases) {
  const { expected } = vector;
  test(`${vector.title}: ${expected.accepted ? 'accepted' : expected.code}`, () => {
    assert.deepEqual(judge(vector), expected);
  });
}
