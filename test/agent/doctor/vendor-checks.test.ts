// What doctor says of a misconfiguration of each named vendor. The vendors' rules are imposed on SoftHSM by the module of
// test/hsm/shim, under the file name of the vendor's own; no hardware was tried.
import assert from 'node:assert/strict';
import { chmod, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { after, before, test } from 'node:test';
import { type Config, loadConfig } from '../../../agent/config/config.ts';
import type { Check } from '../../../agent/doctor/check.ts';
import { checkToken } from '../../../agent/doctor/token-checks.ts';
import { vendorChecks } from '../../../agent/doctor/vendor-checks.ts';
import type { VendorProfile } from '../../../agent/token/profiles/profile.ts';
import { PROFILES } from '../../../agent/token/profiles/vendors.ts';
import { makePkcs11Shim, type Pkcs11Shim } from '../../support/pkcs11-shim.ts';
import { makeSoftHsm, type SoftHsm } from '../../support/softhsm.ts';
import { pinFor, rulesOf } from '../../support/vendor-rules.ts';

const ROOT = process.getuid?.() === 0;
const VENDORS = ['luna', 'nshield', 'cloudhsm', 'azure-cloud', 'softhsm'];
const named = (name: string): VendorProfile => PROFILES.find((row) => row.name === name) ?? assert.fail(name);

let hsm: SoftHsm;
let folder: string;
const shims: Pkcs11Shim[] = [];
before(async () => {
  hsm = await makeSoftHsm();
  folder = await mkdtemp(join(tmpdir(), 'mortise-vendors-'));
});
after(async () => {
  for (const shim of shims) shim.close();
  await hsm?.dispose();
  await rm(folder, { recursive: true, force: true });
});

/** The vendor's module, and what the agent is configured with. */
const setUp = async (profile: VendorProfile, pin: string, label = hsm.label) => {
  const place = await mkdtemp(join(folder, `${profile.name}-`));
  const name = basename(profile.libraries.is[0] ?? 'shim.so');
  const options = { folder: join(place, 'lib'), real: hsm.library, pin: hsm.pin, rules: rulesOf(profile), name };
  const shim = await makePkcs11Shim(options);
  shims.push(shim);
  const pinFile = join(place, 'pin');
  await writeFile(pinFile, `${pin}\n`, { mode: 0o600 });
  const config: Config = loadConfig({
    MORTISE_DATA_DIR: place,
    MORTISE_SOCKET_PATH: join(place, 'agent.sock'),
    PKCS11_LIBRARY_PATH: shim.library,
    PKCS11_TOKEN_LABEL: label,
    PKCS11_PIN_FILE: pinFile,
  }).config;
  return { shim, config };
};
const environment = () => ({ PATH: '/usr/bin:/bin', ...hsm.env });
const said = (checks: readonly Check[], name: string): string =>
  checks
    .filter((row) => row.name === name)
    .map(({ detail, remedy = '' }) => `${detail} (${remedy})`)
    .join('\n');

for (const name of VENDORS) {
  const profile = named(name);
  const colon = profile.pin.is === 'user:password';

  test(`${profile.title}: a PIN that is refused is tried once, and its form is explained`, async () => {
    const { shim, config } = await setUp(profile, colon ? 'user:not-it' : 'not-it');
    const checks = await checkToken(config, environment());
    assert.match(said(checks, 'token'), /refused the login/);
    assert.match(said(checks, 'vendor'), /the PIN file holds/);
    assert.equal(shim.calls('C_Login'), 1);
    assert.ok(checks.every(({ detail }) => !detail.includes('not-it')));
  });

  test(`${profile.title}: a token that is not initialised is explained in the vendor's words`, async () => {
    const { shim, config } = await setUp(profile, pinFor(profile, hsm.pin), 'another');
    const checks = await checkToken(config, environment());
    assert.match(said(checks, 'token'), /no token is labelled "another"/);
    assert.ok(said(checks, 'vendor').includes(profile.title));
    assert.equal(shim.calls('C_Login'), 0);
  });

  test(`${profile.title}: with the right PIN there is nothing to explain`, async () => {
    const { config } = await setUp(profile, pinFor(profile, hsm.pin));
    const checks = await checkToken(config, environment());
    assert.deepEqual(
      checks.filter(({ level }) => level === 'fail'),
      [],
    );
    assert.equal(said(checks, 'vendor'), '');
    assert.match(said(checks, 'library'), new RegExp(`profile ${profile.name},`));
  });
}

for (const name of ['cloudhsm', 'azure-cloud']) {
  test(`${named(name).title}: a PIN without a user is not tried at all`, async () => {
    const { shim, config } = await setUp(named(name), hsm.pin);
    const checks = await checkToken(config, environment());
    assert.match(said(checks, 'token'), /user:password/);
    assert.equal(shim.calls('C_Login'), 0);
  });
}

test('Google Cloud HSM: what it lacks for an agent is named', async () => {
  const { config } = await setUp(named('google'), 'ignored');
  const checks = await checkToken(config, environment());
  const failing = checks.filter((row) => row.level === 'fail');
  assert.match(said(failing, 'wrapping'), /generate-aes-256: C_GenerateKey: CKR_TEMPLATE_INCOMPLETE/);
  assert.match(said(failing, 'checkpoints'), /rsa-pss: C_GenerateKeyPair: CKR_TEMPLATE_INCOMPLETE/);
  assert.match(said(checks, 'profile'), /cannot be the token of an agent/);
});

const question = (name: string, environment: Record<string, string> = {}) => ({
  profile: named(name),
  library: named(name).libraries.is[0] ?? '',
  reason: 'library-failed' as const,
  environment,
});

test('a client whose configuration is not there is named, with the variable that would say where', async () => {
  for (const name of ['luna', 'nshield', 'cloudhsm', 'azure-cloud']) {
    const checks = await vendorChecks(question(name));
    const [path] = named(name).client.is.files;
    assert.ok(said(checks, 'client').includes(path ?? assert.fail()), name);
  }
  const missing = join(folder, 'none.yaml');
  const checks = await vendorChecks(question('google', { KMS_PKCS11_CONFIG: missing }));
  assert.match(said(checks, 'client'), /none\.yaml, which KMS_PKCS11_CONFIG names, is not there/);
});

test('a configuration that this user cannot read is named', { skip: !ROOT && 'needs to be root' }, async () => {
  await chmod(folder, 0o755);
  const file = join(folder, 'Chrystoki.conf');
  await writeFile(file, '', { mode: 0o600 });
  const asked = question('luna', { ChrystokiConfigurationPath: file });
  assert.deepEqual(await vendorChecks(asked), []);
  process.seteuid?.(65534);
  try {
    assert.match(said(await vendorChecks(asked), 'client'), /cannot be read by this user/);
  } finally {
    process.seteuid?.(0);
  }
});

test('a clock that is behind the files of the client is named', async () => {
  const place = await mkdtemp(join(folder, 'clock-'));
  await mkdir(join(place, 'conf'));
  const asked = question('luna', { ChrystokiConfigurationPath: join(place, 'conf') });
  assert.equal(said(await vendorChecks({ ...asked, now: Date.now() }), 'clock'), '');
  assert.match(said(await vendorChecks({ ...asked, now: Date.now() - 86_400_000 }), 'clock'), /after what the clock/);
});

test('a library that is not there: where the vendor puts it', async () => {
  for (const name of VENDORS) {
    const checks = await vendorChecks({ ...question(name), reason: 'library-missing' });
    assert.ok(said(checks, 'vendor').includes(named(name).libraries.is[0] ?? assert.fail()), name);
  }
  assert.deepEqual(await vendorChecks(question('generic')), []);
});
