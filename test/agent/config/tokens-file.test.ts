import assert from 'node:assert/strict';
import { chmod, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import fc from 'fast-check';
import { certificateWarning } from '../../../agent/config/certificate.ts';
import { ConfigError, loadConfig } from '../../../agent/config/config.ts';
import { parseTokensFile, TokensFileError } from '../../../agent/config/tokens-file.ts';
import { isVendorVariable } from '../../../agent/token/environment.ts';

let folder: string;
before(async () => {
  folder = await mkdtemp(join(tmpdir(), 'mortise-tokens-file-'));
});
after(() => rm(folder, { recursive: true, force: true }));

const MAIN = { name: 'main', library: '/lib/a.so', label: 'a', pin: { file: '/pin-a' }, tenants: 'others' };
const OTHER = { name: 'luna-b', library: '/lib/b.so', slotIndex: 2, pin: { file: '/pin-b' }, tenants: ['globex'] };
const document = (change: object = {}): object => ({
  schema: 'mortise.tokens/v1',
  agent: 'main',
  tokens: [MAIN, OTHER],
  ...change,
});
const parse = (value: unknown, credentials?: string) =>
  parseTokensFile(JSON.stringify(value), { credentials, allowed: isVendorVariable });
const problemsOf = (value: unknown): readonly string[] => {
  try {
    parse(value);
  } catch (error) {
    assert.ok(error instanceof TokensFileError);
    return error.problems;
  }
  return [];
};

test('tokens are read with the defaults that a single token has', () => {
  const { agent, tokens } = parse(document());
  const single = loadConfig({ PKCS11_PIN_FILE: '/pin' }).config.token;
  assert.equal(agent, 'main');
  const { name, library, label, pin, tenants, ...rest } = tokens[0] as (typeof tokens)[number];
  assert.deepEqual([name, library, label, pin.kind, tenants], ['main', '/lib/a.so', 'a', 'file', 'others']);
  for (const [field, value] of Object.entries(rest)) {
    assert.deepEqual(value, (single as unknown as Record<string, unknown>)[field], field);
  }
  assert.deepEqual([tokens[1]?.slotIndex, tokens[1]?.tenants], [2, ['globex']]);
});

test('everything that can be said of a token is taken', () => {
  const certificate = {
    identifier: 'CMVP 1',
    standard: 'FIPS 140-3',
    level: 3,
    expires: '2030-02-28',
    status: 'active',
  };
  const { tokens } = parse(
    document({
      tokens: [
        {
          ...MAIN,
          pin: { command: ['/bin/read-pin', 'a b'], timeoutSeconds: 5 },
          sessions: 3,
          sessionTimeoutSeconds: 4,
          callSeconds: 5,
          startSeconds: 6,
          recoverySeconds: 7,
          disabledMechanisms: ['CKM_EDDSA'],
          environment: { SOFTHSM2_CONF: '/etc/a.conf', CKNFAST_LOADSHARING: '1' },
          certificate,
        },
      ],
    }),
  );
  const [token] = tokens;
  assert.deepEqual(token?.pin, { kind: 'command', argv: ['/bin/read-pin', 'a b'], timeoutMs: 5000 });
  assert.deepEqual(
    [token?.sessions, token?.sessionTimeoutMs, token?.callMs, token?.startMs, token?.recoveryMs],
    [3, 4000, 5000, 6000, 7000],
  );
  assert.deepEqual(token?.environment, { SOFTHSM2_CONF: '/etc/a.conf', CKNFAST_LOADSHARING: '1' });
  assert.deepEqual(token?.certificate, { ...certificate, expires: Date.UTC(2030, 1, 28) });
});

test('a credential is a file in the folder that systemd names, and refused without one', () => {
  const named = document({ tokens: [{ ...MAIN, pin: { credential: 'luna-pin' } }] });
  assert.deepEqual(parse(named, '/run/cred').tokens[0]?.pin, { kind: 'file', path: '/run/cred/luna-pin' });
  assert.match(problemsOf(named).join(), /CREDENTIALS_DIRECTORY/);
});

const WRONG: readonly (readonly [object, RegExp])[] = [
  [{ schema: 'v2' }, /schema/],
  [{ agent: 'nobody' }, /agent must be the name of a token/],
  [{ extra: 1 }, /"extra" that is not known/],
  [{ tokens: [] }, /tokens must be a list/],
  [{ tokens: [MAIN, MAIN] }, /two tokens called main.*others" twice/],
  [{ tokens: [MAIN, OTHER, { ...OTHER, name: 'c' }] }, /bind the tenant globex twice/],
  [{ tokens: [{ ...MAIN, name: 'A B' }] }, /tokens\[0\]\.name/],
  [{ tokens: [{ ...MAIN, library: 'a.so' }] }, /tokens\[0\]\.library/],
  [{ tokens: [{ ...MAIN, slotIndex: 1 }] }, /a label and a slotIndex/],
  [{ tokens: [{ ...MAIN, pin: '1234' }] }, /pin must be an object/],
  [{ tokens: [{ ...MAIN, pin: { value: '1234' } }] }, /pin has a field "value".*one of file, credential, command/],
  [{ tokens: [{ ...MAIN, pin: { file: '/a', credential: 'b' } }] }, /must have one of/],
  [{ tokens: [{ ...MAIN, pin: { file: '/a', timeoutSeconds: 3 } }] }, /timeoutSeconds is for a command/],
  [{ tokens: [{ ...MAIN, pin: { command: ['read-pin'] } }] }, /absolute path of a program/],
  [{ tokens: [{ ...MAIN, environment: { LD_PRELOAD: '/evil.so' } }] }, /"LD_PRELOAD" that is not known/],
  [{ tokens: [{ ...MAIN, tenants: ['_platform'] }] }, /tenants\[0\]/],
  [{ tokens: [{ ...MAIN, sessions: 0 }] }, /sessions must be a whole number from 1 to 256/],
  [{ tokens: [{ ...MAIN, certificate: { identifier: 'x' } }] }, /certificate\.expires.*certificate\.status/],
];

test('what is wrong is said with its place, and the value of nothing is repeated', () => {
  for (const [change, expected] of WRONG) {
    const problems = problemsOf(document(change)).join('; ');
    assert.match(problems, expected);
    assert.ok(!problems.includes('1234') && !problems.includes('evil'), problems);
  }
});

test('any JSON is taken or refused with problems', () => {
  const strange = fc.jsonValue().chain((value) => fc.constantFrom(value, document({ tokens: [value] })));
  fc.assert(
    fc.property(strange, (value) => {
      try {
        parse(value);
      } catch (error) {
        assert.ok(error instanceof TokensFileError, String(error));
        assert.ok(error.problems.length > 0);
      }
    }),
    { numRuns: 300, seed: 20261124 },
  );
});

test('the file is refused where others can write it, and beside the variables of a single token', async () => {
  const path = join(folder, 'tokens.json');
  await writeFile(path, JSON.stringify(document()), { mode: 0o644 });
  const { config } = loadConfig({ MORTISE_TOKENS_FILE: path, PKCS11_KEK_LABEL_PREFIX: 'x:kek' });
  assert.deepEqual([config.tokens.length, config.token.name, config.kekLabelPrefix], [2, 'main', 'x:kek']);
  const refusal = (env: Record<string, string>): string => {
    try {
      loadConfig({ MORTISE_TOKENS_FILE: path, ...env });
    } catch (error) {
      assert.ok(error instanceof ConfigError);
      return error.message;
    }
    return '';
  };
  assert.match(refusal({ PKCS11_LIBRARY_PATH: '/lib/c.so' }), /PKCS11_LIBRARY_PATH: is for a single token/);
  await chmod(path, 0o666);
  assert.match(refusal({}), /can be written by others/);
  assert.match(refusal({ MORTISE_TOKENS_FILE: join(folder, 'none') }), /cannot be read \(ENOENT\)/);
  await writeFile(path, '{"hunter2');
  await chmod(path, 0o600);
  assert.match(refusal({}), /it is not JSON/);
  assert.ok(!refusal({}).includes('hunter2'));
});

test('a certificate that is expired, about to be, historical or revoked is warned of', () => {
  const now = Date.UTC(2026, 10, 24);
  const base = { identifier: 'CMVP 7', standard: 'FIPS 140-2', level: 3 };
  const of = (expires: number, status: 'active' | 'historical' | 'revoked' = 'active') =>
    certificateWarning({ ...base, expires, status }, now);
  assert.equal(of(Date.UTC(2029, 0, 1)), undefined);
  assert.match(of(Date.UTC(2027, 0, 1)) ?? '', /CMVP 7 expires on 2027-01-01/);
  assert.match(of(now) ?? '', /expired on 2026-11-24/);
  assert.match(of(Date.UTC(2029, 0, 1), 'historical') ?? '', /is historical/);
  assert.match(of(Date.UTC(2029, 0, 1), 'revoked') ?? '', /is revoked/);
});
