// The policy commands, without an agent: a folder of 2-of-3 officers made, signed, examined and attacked by the CLI.
import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { parsePolicy } from '../../../proto/documents/policy.ts';
import { verifyPolicy } from '../../../proto/documents/policy-sign.ts';
import { parseTrustAnchor } from '../../../proto/documents/trust-anchor.ts';
import { type CliResult, runCli } from './run-cli.ts';

const root = mkdtempSync(join(tmpdir(), 'mortise-policy-cli-'));
const dir = join(root, 'p');
const PASSPHRASES = { alice: 'correct horse', bob: 'battery staple', carol: 'tr0ub4dor' } as const;
type Name = keyof typeof PASSPHRASES;
const passphraseFile = (name: Name): string => join(root, `${name}.pass`);
const keyFile = (name: Name): string => join(dir, 'officers', `${name}.keys.json`);
const draft = (name: string): string => join(dir, 'drafts', name);
const signedFile = (name: string): string => join(dir, 'policy', name);
const anchorFile = signedFile('trust-anchor.json');
const edit = (path: string, change: (policy: Record<string, unknown>) => void): void => {
  const policy = JSON.parse(readFileSync(path, 'utf8')) as Record<string, unknown>;
  change(policy);
  writeFileSync(path, JSON.stringify(policy));
};
const sign = (file: string, names: readonly Name[], ...more: string[]): Promise<CliResult> =>
  runCli([
    ...['policy', 'sign', file, '--dir', dir],
    ...names.flatMap((name) => ['--officer', keyFile(name), '--passphrase-file', passphraseFile(name)]),
    ...more,
  ]);
const ok = (result: CliResult): CliResult => {
  assert.equal(result.code, 0, result.stderr + result.stdout);
  return result;
};

before(async () => {
  for (const [name, passphrase] of Object.entries(PASSPHRASES)) {
    writeFileSync(passphraseFile(name as Name), `${passphrase}\n`);
  }
  ok(
    await runCli([
      ...['policy', 'init', '--dir', dir, '--tenant', 'acme', '--tenant', 'globex', '--threshold', '2'],
      ...(['alice', 'bob', 'carol'] as const).flatMap((name) => [
        ...['--officer', name, '--passphrase-file', passphraseFile(name)],
      ]),
    ]),
  );
});
after(() => rmSync(root, { recursive: true, force: true }));

test('init writes drafts that parse, an anchor of 2 of 3, and private key files without readable keys', () => {
  assert.deepEqual(parsePolicy(readFileSync(draft('platform.json'))).scope, 'platform');
  assert.deepEqual(parsePolicy(readFileSync(draft('tenants/acme.json'))).scope, 'tenant');
  const anchor = parseTrustAnchor(readFileSync(anchorFile));
  assert.equal(anchor.threshold, 2);
  assert.deepEqual(
    anchor.officers.map(({ name }) => name),
    ['alice', 'bob', 'carol'],
  );
  for (const name of ['alice', 'bob', 'carol'] as const) {
    assert.equal(statSync(keyFile(name)).mode & 0o777, 0o600);
    const { ciphertext, ...open } = JSON.parse(readFileSync(keyFile(name), 'utf8'));
    assert.ok(ciphertext.length > 100);
    assert.doesNotMatch(JSON.stringify(open), /"d"|"priv"/);
  }
  assert.equal(statSync(join(dir, 'officers')).mode & 0o777, 0o700);
});

test('init does not replace what is there', async () => {
  const before = readFileSync(anchorFile);
  const again = await runCli(['policy', 'init', '--dir', dir, '--passphrase-file', passphraseFile('alice')]);
  assert.equal(again.code, 2);
  assert.match(again.stderr, /exists; --force/);
  assert.deepEqual(readFileSync(anchorFile), before);
});

test('init refuses a template, a tenant and a threshold that no agent would take', async () => {
  const at = ['policy', 'init', '--dir', join(root, 'other'), '--passphrase-file', passphraseFile('alice')];
  assert.match(
    (await runCli([...at, '--template', 'nice'])).stderr,
    /default, fips-140-3, cnsa-2\.0, pqc-hybrid, classical-migration/,
  );
  assert.notEqual((await runCli([...at, '--tenant', 'Not A Tenant'])).code, 0);
  assert.notEqual((await runCli([...at, '--threshold', '2'])).code, 0);
});

test('one officer of two is not enough, the second completes the policy', async () => {
  edit(draft('platform.json'), (policy) => {
    policy['algorithms'] = { ...(policy['algorithms'] as object), deny: ['RS256', 'RS384', 'RS512'] };
    policy['rateLimits'] = { operationsPerSecond: 100, burst: 200 };
  });
  const first = ok(await sign(draft('platform.json'), ['alice'], '--output', 'json'));
  assert.deepEqual(JSON.parse(first.stdout), {
    signed: true,
    out: signedFile('platform.json'),
    officers: ['alice'],
    threshold: 2,
    complete: false,
  });
  const early = await runCli(['policy', 'verify', signedFile('platform.json'), '--anchor', anchorFile]);
  assert.equal(early.code, 4);
  assert.match(early.stdout, /SIGNATURE_THRESHOLD: 1 of 2 needed officers/);
  const second = ok(await sign(signedFile('platform.json'), ['carol'], '--output', 'json'));
  assert.deepEqual(JSON.parse(second.stdout).officers, ['alice', 'carol']);
  const verified = verifyPolicy(readFileSync(signedFile('platform.json')), parseTrustAnchor(readFileSync(anchorFile)));
  assert.deepEqual(verified.officers, ['alice', 'carol']);
  assert.deepEqual(verified.payload, readFileSync(draft('platform.json')), 'signed byte for byte');
});

test('the same officer twice still counts once', async () => {
  const again = ok(await sign(signedFile('platform.json'), ['carol'], '--output', 'json'));
  assert.deepEqual(JSON.parse(again.stdout).officers, ['alice', 'carol']);
});

test('a tenant policy that widens is refused before any passphrase, with every place', async () => {
  edit(draft('tenants/acme.json'), (policy) => {
    policy['rateLimits'] = { operationsPerSecond: 5000, burst: 100 };
    policy['algorithms'] = { allow: ['RS256', 'AES-256'] };
  });
  const out = signedFile('tenants/acme.json');
  const at = ['policy', 'sign', draft('tenants/acme.json'), '--dir', dir, '--officer', keyFile('alice')];
  const refused = await runCli([...at, '--passphrase-file', '/nonexistent', '--output', 'json']);
  assert.equal(refused.code, 3);
  const { signed, widenings } = JSON.parse(refused.stdout);
  assert.equal(signed, false);
  assert.deepEqual(widenings.map((row: { path: string }) => row.path).sort(), [
    'algorithms.allow[0]',
    'rateLimits.operationsPerSecond',
  ]);
  assert.throws(() => statSync(out));
});

test('a tenant policy that narrows is signed by both at once and verifies against the platform', async () => {
  edit(draft('tenants/acme.json'), (policy) => {
    policy['rateLimits'] = { operationsPerSecond: 10, burst: 20 };
    policy['algorithms'] = { allow: ['AES-256', 'EC-P256'] };
  });
  ok(await sign(draft('tenants/acme.json'), ['alice', 'bob']));
  const files = [signedFile('platform.json'), signedFile('tenants/acme.json')];
  const at = ['--anchor', anchorFile, '--platform', signedFile('platform.json')];
  const verified = ok(await runCli(['policy', 'verify', ...files, ...at, '--output', 'json']));
  const { policies } = JSON.parse(verified.stdout);
  assert.deepEqual(
    policies.map((row: { acceptable: boolean; officers: string[] }) => [row.acceptable, row.officers]),
    [
      [true, ['alice', 'carol']],
      [true, ['alice', 'bob']],
    ],
  );
  assert.ok(policies[0].signatures.every((row: { verdict: string }) => row.verdict === 'valid'));
});

test('verify finds an expired policy, one of another time, and a changed byte', async () => {
  const at = ['policy', 'verify', signedFile('platform.json'), '--anchor', anchorFile];
  const late = await runCli([...at, '--at', '2100-01-01']);
  assert.equal(late.code, 4);
  assert.match(late.stdout, /EXPIRED/);
  const early = await runCli([...at, '--at', '2020-01-01']);
  assert.match(early.stdout, /NOT_YET_VALID/);
  const jws = JSON.parse(readFileSync(signedFile('platform.json'), 'utf8'));
  const payload = Buffer.from(jws.payload, 'base64url').toString().replace('"burst":200', '"burst":999');
  const changed = join(root, 'changed.json');
  writeFileSync(changed, JSON.stringify({ ...jws, payload: Buffer.from(payload).toString('base64url') }));
  const tampered = await runCli(['policy', 'verify', changed, '--anchor', anchorFile, '--output', 'json']);
  assert.equal(tampered.code, 4);
  const [report] = JSON.parse(tampered.stdout).policies;
  assert.ok(report.signatures.every((row: { verdict: string }) => row.verdict === 'invalid'));
  assert.deepEqual(report.problems[0].code, 'SIGNATURE_THRESHOLD');
});

test('a wrong passphrase is refused and writes nothing', async () => {
  const at = ['policy', 'sign', draft('tenants/globex.json'), '--dir', dir, '--officer', keyFile('bob')];
  const wrong = await runCli([...at, '--passphrase-file', passphraseFile('alice')]);
  assert.notEqual(wrong.code, 0);
  assert.match(wrong.stderr, /PASSPHRASE_WRONG/);
  assert.doesNotMatch(wrong.stderr + wrong.stdout, /correct horse/);
  assert.throws(() => statSync(signedFile('tenants/globex.json')));
});

test('without a terminal and without a file there is nobody to ask for a passphrase', async () => {
  const { spawnSync } = await import('node:child_process');
  const { CLI } = await import('./run-cli.ts');
  // setsid takes the controlling terminal away, where the tests have one.
  const at = [CLI, 'policy', 'sign', draft('tenants/globex.json'), '--dir', dir, '--officer', keyFile('bob')];
  const { status, stderr } = spawnSync('setsid', ['-w', process.execPath, ...at], { encoding: 'utf8', input: 'x\n' });
  assert.equal(status, 2);
  assert.match(stderr, /no terminal to ask .* use --passphrase-file/);
});

test('explain names the rule, from drafts or signed files', async () => {
  const platform = ['--platform', signedFile('platform.json')];
  const acme = [...platform, '--policy', signedFile('tenants/acme.json')];
  for (const [args, code, rule] of [
    [['encrypt', '--algorithm', 'AES-256', ...acme], 0, 'tenant.algorithms.allow'],
    [['sign', '--algorithm', 'RSA-2048', '--jose', 'RS256', ...platform], 3, 'platform.algorithms.deny'],
    [['sign', '--algorithm', 'Ed25519', ...acme], 3, 'tenant.algorithms.allow'],
    [['create-key', '--algorithm', 'RSA-1024', ...acme], 3, 'forbidden'],
    [['sign', '--algorithm', 'EC-P256', ...acme, '--at', '2100-01-01'], 3, 'validity'],
    [['encrypt', '--algorithm', 'AES-256', '--platform', draft('platform.json')], 0, 'platform.algorithms.allow'],
  ] as const) {
    const result = await runCli(['policy', 'explain', ...args, '--output', 'json']);
    assert.equal(result.code, code, args.join(' ') + result.stderr);
    assert.equal(JSON.parse(result.stdout).rule, rule, args.join(' '));
  }
  assert.equal((await runCli(['policy', 'explain', 'dance', ...platform])).code, 2);
  assert.equal((await runCli(['policy', 'explain', 'sign', '--platform', signedFile('tenants/acme.json')])).code, 2);
});

test('diff shows what changed and where', async () => {
  const changed = join(root, 'next.json');
  const next = JSON.parse(readFileSync(draft('platform.json'), 'utf8'));
  next.version = 2;
  next.rateLimits.burst = 300;
  writeFileSync(changed, JSON.stringify(next));
  const result = ok(await runCli(['policy', 'diff', signedFile('platform.json'), changed, '--output', 'json']));
  assert.deepEqual(JSON.parse(result.stdout).changes, [
    { path: 'rateLimits.burst', before: 200, after: 300 },
    { path: 'version', before: 1, after: 2 },
  ]);
  const same = ok(await runCli(['policy', 'diff', draft('platform.json'), signedFile('platform.json')]));
  assert.equal(same.stdout, 'no difference\n');
});
