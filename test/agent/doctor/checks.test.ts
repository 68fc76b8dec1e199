import assert from 'node:assert/strict';
import { chmod, chown, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { type Config, loadConfig } from '../../../agent/config/config.ts';
import type { Check } from '../../../agent/doctor/check.ts';
import { checkDataFolder, checkSocketFolder } from '../../../agent/doctor/folder-checks.ts';
import { checkClock, checkNode, checkUser } from '../../../agent/doctor/host-checks.ts';
import { checkPolicy } from '../../../agent/doctor/policy-checks.ts';
import { checkToken } from '../../../agent/doctor/token-checks.ts';
import { doctor } from '../../../agent/doctor.ts';
import { makePolicyFolder, publishFile } from '../../support/policy.ts';
import { makeSoftHsm, type SoftHsm } from '../../support/softhsm.ts';

const ROOT = process.getuid?.() === 0;
const DAY_MS = 24 * 3600 * 1000;

let folder: string;
let token: SoftHsm;
before(async () => {
  folder = await mkdtemp(join(tmpdir(), 'mortise-doctor-'));
  token = await makeSoftHsm();
});
after(async () => {
  await token?.dispose();
  await rm(folder, { recursive: true, force: true });
});

const configWith = (env: Record<string, string>): Config =>
  loadConfig({
    MORTISE_DATA_DIR: folder,
    MORTISE_SOCKET_PATH: join(folder, 'agent.sock'),
    PKCS11_LIBRARY_PATH: token.library,
    PKCS11_TOKEN_LABEL: token.label,
    PKCS11_PIN_FILE: token.pinFile,
    ...env,
  }).config;

/** The level, and that whatever is wrong has a remedy. */
const judged = (check: Check | undefined): Check['level'] => {
  assert.ok(check !== undefined);
  if (check.level !== 'ok') assert.ok((check.remedy ?? '').length > 5, check.detail);
  return check.level;
};

test('an old Node fails, the present one does not', () => {
  for (const version of ['20.20.2', '24.11.9', '22.0.0']) assert.equal(judged(checkNode(version)), 'fail', version);
  for (const version of ['24.12.0', '25.0.0', process.versions.node])
    assert.equal(judged(checkNode(version)), 'ok', version);
});

test('a clock that cannot be right fails', () => {
  assert.equal(judged(checkClock(0)), 'fail');
  assert.equal(judged(checkClock(Date.UTC(2200, 0, 1))), 'fail');
  assert.equal(judged(checkClock()), 'ok');
});

test('root fails, or warns where it is allowed', () => {
  assert.equal(judged(checkUser(configWith({}), 0)), 'fail');
  assert.equal(judged(checkUser(configWith({ MORTISE_ALLOW_ROOT: 'yes' }), 0)), 'warn');
  assert.equal(judged(checkUser(configWith({}), 990)), 'ok');
});

test('a data folder is missing, no folder, open to others or another’s', async () => {
  const of = (path: string) => checkDataFolder(configWith({ MORTISE_DATA_DIR: path }));
  assert.equal(judged(await of(folder)), 'ok');
  assert.equal(judged(await of(join(folder, 'new'))), 'warn');
  await writeFile(join(folder, 'file'), '');
  assert.equal(judged(await of(join(folder, 'file'))), 'fail');
  await mkdir(join(folder, 'open'));
  await chmod(join(folder, 'open'), 0o755);
  assert.equal(judged(await of(join(folder, 'open'))), 'warn');
  if (!ROOT) return;
  await mkdir(join(folder, 'theirs'), { mode: 0o700 });
  await chown(join(folder, 'theirs'), 12_345, 12_345);
  assert.equal(judged(await of(join(folder, 'theirs'))), 'fail');
});

test('the folder of the socket is missing or open to others; a mode for everybody warns', async () => {
  const of = (env: Record<string, string>) => checkSocketFolder(configWith(env));
  assert.equal(judged(await of({})), 'ok');
  assert.equal(judged(await of({ MORTISE_SOCKET_PATH: '/no/folder/agent.sock' })), 'fail');
  await mkdir(join(folder, 'shared'));
  await chmod(join(folder, 'shared'), 0o777);
  assert.equal(judged(await of({ MORTISE_SOCKET_PATH: join(folder, 'shared', 'agent.sock') })), 'fail');
  await chmod(join(folder, 'shared'), 0o1777);
  assert.equal(judged(await of({ MORTISE_SOCKET_PATH: join(folder, 'shared', 'agent.sock') })), 'ok');
  assert.equal(judged(await of({ MORTISE_SOCKET_MODE: '0666' })), 'warn');
});

test('policies are judged as the agent judges them', async () => {
  await using policy = await makePolicyFolder({ tenants: ['acme'] });
  const levels = async () =>
    (await checkPolicy(configWith({ MORTISE_POLICY_DIR: policy.dir }))).map(
      (check) => `${check.name} ${judged(check)}`,
    );
  assert.deepEqual(await levels(), ['trust anchor ok', 'policy ok']);
  await policy.publishTenant('acme');
  assert.deepEqual(await levels(), ['trust anchor ok', 'policy ok', 'policy ok']);
  await policy.publishPlatform({ expiresAt: new Date(Date.now() + DAY_MS).toISOString() });
  assert.deepEqual(await levels(), ['trust anchor ok', 'policy warn', 'policy ok']);
  await publishFile(join(policy.dir, 'platform.json'), '{}');
  assert.equal((await levels())[1], 'policy fail');
  await publishFile(join(policy.dir, 'trust-anchor.json'), '{}');
  assert.deepEqual(await levels(), ['trust anchor fail']);
});

test('the token is described, and each thing that keeps it away has its remedy', async () => {
  const of = async (env: Record<string, string>) => checkToken(configWith(env), token.env);
  const good = await of({});
  assert.deepEqual(
    good.filter((check) => judged(check) === 'fail'),
    [],
  );
  assert.match(good.find(({ name }) => name === 'can')?.detail ?? '', /aes-gcm.*ecdsa-p256/);
  const wraps = good.filter(({ name }) => name === 'wraps').map(({ level, detail }) => `${level} ${detail}`);
  assert.equal(wraps.length, 2, 'one line for ML-DSA, one for ML-KEM: SoftHSM 2.6 has neither');
  for (const line of wraps) assert.match(line, /^ok ml-(dsa|kem)-.*wrapped by the token.*does not list CKM_ML_/);
  const wrapping = (checks: typeof good) =>
    checks.filter(({ name }) => name === 'wrapping').map(({ detail }) => detail);
  assert.deepEqual(wrapping(good), ['the token wraps keys by AES-256-GCM']);
  const withoutGcm = await of({ PKCS11_DISABLED_MECHANISMS: 'CKM_AES_GCM' });
  assert.match(wrapping(withoutGcm).join(), /^the token wraps keys by AES-256-CBC, then HMAC-SHA-256, for aes-gcm: /);
  assert.deepEqual(
    withoutGcm.filter(({ name }) => name === 'cannot').map(({ level, detail }) => `${level} ${detail.slice(0, 8)}`),
    ['warn aes-gcm:'],
  );
  const failure = async (env: Record<string, string>): Promise<string> => {
    const checks = await of(env);
    assert.ok(checks.some((check) => judged(check) === 'fail'));
    return checks.map(({ detail, remedy }) => `${detail} ${remedy}`).join('\n');
  };
  const all = 'CKM_AES_GCM,CKM_AES_CBC_PAD,CKM_AES_KEY_WRAP,CKM_AES_KEY_WRAP_PAD';
  assert.match(
    await failure({ PKCS11_DISABLED_MECHANISMS: all }),
    /can wrap no keys.*aes-gcm: .*wrap-aes-cbc-hmac: .*wrap-aes-kwp: .*wrap-aes-kw: .* the agent needs it/,
  );
  assert.match(await failure({ PKCS11_LIBRARY_PATH: '/no/such.so' }), /PKCS11_LIBRARY_PATH/);
  assert.match(
    await failure({ PKCS11_TOKEN_LABEL: 'nobody' }),
    new RegExp(`${token.label}[\\s\\S]*PKCS11_TOKEN_LABEL`),
  );
  assert.match(await failure({ PKCS11_PIN_FILE: join(folder, 'no-pin') }), /does not exist[\s\S]*not tried/);
  const wrong = join(folder, 'wrong-pin');
  await writeFile(wrong, '000000', { mode: 0o400 });
  const refused = await failure({ PKCS11_PIN_FILE: wrong });
  assert.match(refused, /PKCS11_PIN_FILE/);
  assert.ok(!refused.includes('000000'));
  const without = await of({ PKCS11_DISABLED_MECHANISMS: 'CKM_EDDSA' });
  assert.ok(without.some(({ name, detail }) => name === 'cannot' && /eddsa/.test(detail)));
});

test('the exit code says whether anything fails, and JSON has every check', async () => {
  const run = async (env: Record<string, string>, output: 'text' | 'json' = 'json') => {
    const lines: string[] = [];
    const code = await doctor({ environment: env, version: '0', output, print: (line) => void lines.push(line) });
    return { code, text: lines.join('\n') };
  };
  const bad = await run({ MORTISE_MAX_STREAMS: 'x', PKCS11_PIN: '1' });
  assert.equal(bad.code, 2);
  const report = JSON.parse(bad.text);
  assert.equal(report.healthy, false);
  const failed = report.checks.filter((check: Check) => check.level === 'fail').map(({ detail }: Check) => detail);
  assert.equal(failed.length, 3);
  assert.match(
    (await run({ MORTISE_MAX_STREAMS: 'x' }, 'text')).text,
    /^FAIL {2}configuration .*MORTISE_MAX_STREAMS[\s\S]*→ /m,
  );
});
