// Starting: what goes wrong is said in words that tell an operator what to do, and a PIN is never tried twice.
import assert from 'node:assert/strict';
import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { copyFile, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { inspectToken } from '../../../agent/token/inspect.ts';
import { isStartReason, START_REASONS, TokenStartError } from '../../../agent/token/start-error.ts';
import { openToken } from '../../../agent/token/token.ts';
import { callOf, rejectsWith } from '../../contract/token.ts';
import { makePkcs11Shim } from '../../support/pkcs11-shim.ts';
import { makeSoftHsm, type SoftHsm } from '../../support/softhsm.ts';
import { openSoftHsmToken, recordTokenEvents, softHsmOptions } from '../../support/token.ts';

let hsm: SoftHsm;
before(async () => {
  hsm = await makeSoftHsm();
});
after(() => hsm.dispose());

const { events } = recordTokenEvents();
const alive = (pid: number): boolean => {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
};

test('every reason has an advice', () => {
  for (const advice of Object.values(START_REASONS)) assert.ok(advice.length > 10);
  assert.ok(isStartReason('pin-refused'));
  assert.ok(!isStartReason('toString'));
});

const refusals: readonly [string, string, RegExp, () => Promise<object> | object][] = [
  ['a library that is missing', 'library-missing', /PKCS11_LIBRARY_PATH/, () => ({ library: '/nowhere/p11.so' })],
  ['a folder as library', 'library-missing', /PKCS11_LIBRARY_PATH/, () => ({ library: '/usr/lib' })],
  [
    'a text file as library',
    'library-invalid',
    /cannot be loaded/,
    async () => {
      const library = join(hsm.folder, 'text.so');
      await writeFile(library, 'not a library');
      return { library };
    },
  ],
  ['a library that is not PKCS#11', 'library-invalid', /cannot be loaded/, () => ({ library: readlinkLibc() })],
  [
    "Debian's libnode beside the Node that runs",
    'second-node',
    /libnode\.so\.115.*npm run setup/,
    async () => {
      const library = join(hsm.folder, 'libnode.so.115'); // what is loaded under this name is not looked at further
      await copyFile(hsm.library, library);
      return { library };
    },
  ],
  ['a label that no token has', 'token-missing', /PKCS11_TOKEN_LABEL/, () => ({ tokenLabel: 'other' })],
  ['a slot that does not exist', 'slot-missing', /slot index 77/, () => ({ tokenLabel: undefined, slotIndex: 77 })],
  [
    'a PIN that cannot be read',
    'pin-unavailable',
    /PKCS11_PIN_FILE/,
    () => ({ pin: () => Promise.reject(new Error('gone')) }),
  ],
  ['a wrong PIN', 'pin-refused', /PKCS11_PIN_FILE/, () => ({ pin: async () => Buffer.from('wrong-pin') })],
  [
    'a mechanism to disable that does not exist',
    'library-failed',
    /CKM_NONSENSE/,
    () => ({ disabledMechanisms: ['CKM_NONSENSE'] }),
  ],
  [
    'a library whose configuration is missing',
    'library-failed',
    /SOFTHSM2_CONF/,
    () => ({ environment: { SOFTHSM2_CONF: '/nowhere/softhsm2.conf' } }),
  ],
];

function readlinkLibc(): string {
  const maps = readFileSync('/proc/self/maps', 'utf8');
  return /(\/\S*libc\.so\.6)/.exec(maps)?.[1] ?? assert.fail('no libc is mapped');
}

for (const [what, reason, message, change] of refusals) {
  test(`${what}: says so, says what to do, and leaves nothing running`, async () => {
    const recorded = recordTokenEvents();
    const options = { ...softHsmOptions(hsm, recorded.events), ...(await change()) };
    const error = await openToken(options).then(
      (token) => token.close().then(() => assert.fail('it opened')),
      (thrown: unknown) => thrown,
    );
    assert.ok(error instanceof TokenStartError, String(error));
    assert.equal(error.reason, reason, error.message);
    assert.match(error.message, message);
    assert.ok(error.message.endsWith(error.advice));
    assert.ok(!error.message.includes(hsm.pin));
    for (const { name, event } of recorded.seen) {
      if (name === 'tokenStarted') assert.ok(!alive((event as { pid: number }).pid));
    }
  });
}

test('two tokens with one label are not guessed between', async () => {
  await using both = await makeSoftHsm();
  await both.addToken(both.label, 'other-pin');
  const inspection = await inspectToken(softHsmOptions(both, events));
  assert.equal(inspection.ok, false);
  assert.ok(!inspection.ok && inspection.reason === 'token-ambiguous');
});

test('the slot index finds the token where no label is given', async () => {
  const { tokenLabel: _, ...options } = softHsmOptions(hsm, events);
  await using token = await openToken(options);
  assert.equal(token.info().label, hsm.label);
});

test('inspection reports what the token is and can do, and closes it', async () => {
  const inspection = await inspectToken(softHsmOptions(hsm, events));
  assert.ok(inspection.ok);
  assert.equal(inspection.info.label, hsm.label);
  assert.match(inspection.info.manufacturer, /SoftHSM/);
  assert.equal(inspection.info.profile, 'softhsm');
  assert.ok(inspection.info.mechanisms.includes('CKM_AES_GCM'));
  const oaep = inspection.abilities.find((row) => row.name === 'rsa-oaep-256');
  assert.equal(oaep?.ok, true);
  assert.match(oaep?.why ?? '', /CKM_RSA_X_509/);
});

test('every ability is proved on SoftHSM, and the RSA part is remembered for the next start', async () => {
  const selfTestFile = join(hsm.folder, 'self-test.json');
  const recorded = recordTokenEvents();
  const first = await openSoftHsmToken(hsm, { selfTestFile }, recorded.events);
  const abilities = first.abilities();
  await first.close();
  const remembered = await readFile(selfTestFile, 'utf8');
  const second = await openSoftHsmToken(hsm, { selfTestFile }, recorded.events);
  assert.deepEqual(second.abilities(), abilities);
  await second.close();
  assert.equal(await readFile(selfTestFile, 'utf8'), remembered);
  assert.ok(abilities.includes('eddsa') && abilities.includes('generate-rsa-4096'), String(abilities));
});

test('a damaged or foreign memory of the self-test is not believed', async () => {
  const selfTestFile = join(hsm.folder, 'damaged.json');
  const lie = { fingerprint: 'x', oaep: 'native', abilities: [{ name: 'rsa-pss', ok: false, why: 'a lie' }] };
  for (const content of ['{"broken', JSON.stringify(lie), '[]', 'null']) {
    await writeFile(selfTestFile, content);
    await using token = await openSoftHsmToken(hsm, { selfTestFile });
    assert.equal(token.canHold('RSA-2048', 'sign').ok, true);
    assert.notEqual(await readFile(selfTestFile, 'utf8'), content);
  }
});

test('withheld mechanisms are no abilities', async () => {
  const disabledMechanisms = ['CKM_EC_EDWARDS_KEY_PAIR_GEN', 'CKM_RSA_X_509', 'CKM_AES_GCM'];
  await using token = await openSoftHsmToken(hsm, { disabledMechanisms });
  const ed25519 = token.canHold('Ed25519', 'sign');
  assert.equal(ed25519.ok, false);
  assert.match(ed25519.ok ? '' : ed25519.why, /CKR_MECHANISM_INVALID/);
  assert.equal(token.canHold('RSA-2048', 'encrypt').ok, false);
  assert.equal(token.canHold('RSA-2048', 'sign').ok, true);
  assert.equal(token.canHold('AES-256', 'encrypt').ok, false);
  assert.ok(!token.info().mechanisms.includes('CKM_AES_GCM'));
  await rejectsWith(token.generate({ algorithm: 'Ed25519', purpose: 'sign', label: 'x' }, callOf()), 'HSM_UNSUPPORTED');
});

test('the environment, the arguments and the memory of the process are free of the PIN', async () => {
  await using token = await openSoftHsmToken(hsm, {
    environment: { ...hsm.env, PATH: '/usr/bin', SECRET: 'not for the child', LD_PRELOAD: '/nowhere.so' },
  });
  await token.random(16, callOf());
  const pid = token.pid();
  const environment = readFileSync(`/proc/${pid}/environ`, 'utf8').split('\0').filter(Boolean);
  assert.deepEqual(environment.map((entry) => entry.split('=')[0]).sort(), ['PATH', 'SOFTHSM2_CONF']);
  assert.ok(!readFileSync(`/proc/${pid}/cmdline`, 'utf8').includes(hsm.pin));
  assert.equal(copiesInMemory(pid as number, hsm.pin), 0);
  assert.ok(copiesInMemory(pid as number, 'SOFTHSM2_CONF') > 0, 'the search finds nothing at all');
});

/** Occurrences in the readable private memory of a process. */
function copiesInMemory(pid: number, text: string): number {
  let count = 0;
  const mem = readFileSync(`/proc/${pid}/maps`, 'utf8')
    .split('\n')
    .map((line) => /^([0-9a-f]+)-([0-9a-f]+) rw.p/.exec(line))
    .filter((match) => match !== null);
  assert.ok(mem.length > 0);
  const { openSync, readSync, closeSync } = process.getBuiltinModule('node:fs');
  const fd = openSync(`/proc/${pid}/mem`, 'r');
  const chunk = Buffer.alloc(1 << 20);
  for (const [, from, to] of mem) {
    for (let at = Number.parseInt(from as string, 16); at < Number.parseInt(to as string, 16); at += chunk.length) {
      const size = Math.min(chunk.length, Number.parseInt(to as string, 16) - at);
      let got = 0;
      try {
        got = readSync(fd, chunk, 0, size, at);
      } catch {
        continue; // a guard page or a mapping that cannot be read
      }
      for (
        let found = chunk.subarray(0, got).indexOf(text);
        found >= 0;
        found = chunk.subarray(0, got).indexOf(text, found + 1)
      ) {
        count += 1;
      }
    }
  }
  closeSync(fd);
  chunk.fill(0);
  return count;
}

test('cannot be dumped, and holds no descriptor but its own', async () => {
  await using token = await openSoftHsmToken(hsm);
  const folder = `/proc/${token.pid()}/fd`;
  const sockets = readdirSync(folder).filter((fd) => readlinkSync(`${folder}/${fd}`).startsWith('socket:'));
  assert.ok(sockets.length >= 1 + 4, `${sockets.length} sockets`);
  // PR_SET_DUMPABLE 0 gives /proc/pid to root; a process of the test's own user would own it otherwise.
  const limits = readFileSync(`/proc/${token.pid()}/limits`, 'utf8');
  assert.match(limits, /Max core file size/);
});

test('a PIN that was refused while running is not tried again until somebody says so', async () => {
  const shim = await makePkcs11Shim({ folder: join(hsm.folder, 'refusing'), real: hsm.library });
  const recorded = recordTokenEvents();
  let asked = 0;
  const base = softHsmOptions(hsm, recorded.events);
  const pin = (): Promise<Buffer> => {
    asked += 1;
    return base.pin();
  };
  await using token = await openToken({ ...base, library: shim.library, pin });
  const logins = shim.calls('C_Login');
  const refusing = shim.addFault({ in: 'C_Login', does: { return: 0xa0 } });
  const refused = recorded.next('tokenLoginRefused');
  process.kill(token.pid() as number, 'SIGKILL');
  await refused;
  assert.equal(token.health().state, 'locked-out');
  assert.match(token.health().detail, /PKCS11_PIN_FILE/);
  await rejectsWith(token.random(16, callOf()), 'HSM_UNAVAILABLE');
  await rejectsWith(token.random(16, callOf()), 'HSM_UNAVAILABLE');
  assert.equal(asked, 2);
  assert.equal(shim.calls('C_Login'), logins + 1);
  refusing.withdraw();
  const ready = recorded.next('tokenReady');
  token.unlock();
  await ready;
  assert.equal((await token.random(16, callOf())).length, 16);
  assert.equal(token.health().healthy, true);
  shim.close();
});

test('a vendor error of C_Login counts as a refusal, a device error does not', async () => {
  const shim = await makePkcs11Shim({ folder: join(hsm.folder, 'failing'), real: hsm.library });
  for (const [ckr, reason] of [
    [0x80000004, 'pin-refused'],
    [0xa4, 'pin-locked'],
    [0x30, 'token-failed'],
  ] as const) {
    const failing = shim.addFault({ in: 'C_Login', does: { return: ckr } });
    const inspection = await inspectToken({ ...softHsmOptions(hsm, events), library: shim.library });
    assert.ok(!inspection.ok);
    assert.equal(inspection.reason, reason);
    failing.withdraw();
  }
  shim.close();
});

test('a PIN that is longer than the token process takes is wiped and not tried', async () => {
  const pin = Buffer.alloc(1100, 0x31);
  const opening = openSoftHsmToken(hsm, { pin: async () => pin });
  await assert.rejects(opening, { name: 'TokenStartError', reason: 'pin-form' });
  assert.ok(pin.every((byte) => byte === 0));
});

test('what is wrong is said where the words for it are very long', async () => {
  const opening = openSoftHsmToken(hsm, { library: `/nowhere${'/x'.repeat(1500)}` });
  await assert.rejects(opening, { name: 'TokenStartError', reason: 'library-missing' });
});
