// The Debian packages on a bare Debian with a real systemd: installed, started, reloaded, started anew under load, watched,
// upgraded, rebooted.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { copyFile, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import type { MortiseClient } from '../../clients/typescript/index.ts';
import { buildDebianPackages } from '../../systemd/package/debian.ts';
import { stage } from '../../systemd/package/stage.ts';
import { allRecords, clientOf, startLoad } from '../e2e/load.ts';
import { makeAgentPolicy, makeIssuer } from '../support/agent.ts';
import { BootedDebian, cannotBoot } from './support/booted.ts';

const EPOCH = 1_800_000_000;
const PATIENCE_MS = 60_000;
const skip = cannotBoot();
const issuer = makeIssuer();
const message = Buffer.from('iron, 40 t');
let debian: BootedDebian;
let packages: string;
let closing: (() => Promise<void>)[] = [];

const property = async (name: string, unit = 'mortise-agent.service'): Promise<string> =>
  (await debian.run(`systemctl show --value --property=${name} ${unit}`)).trim();

/** Polls, since systemd has no event for it that reaches outside. */
const becomes = async (what: string, holds: () => Promise<boolean>): Promise<void> => {
  const until = performance.now() + PATIENCE_MS;
  while (!(await holds())) {
    if (performance.now() > until) throw new Error(`${what} did not come:\n${await debian.journal('mortise-agent')}`);
    await sleep(100);
  }
};

const serving = (): Promise<void> =>
  becomes(
    'serving',
    async () => (await property('StatusText')) === 'Serving' && (await property('SubState')) === 'running',
  );

/** Anew for each boot: the path leads through process 1. */
const connect = (): MortiseClient => clientOf({ socket: debian.path('/run/mortise/agent.sock'), issuer }, 'acme');

/** Everything is answered with "ok" while `act` goes on, and some calls after it. */
const refusesNobody = async (act: () => Promise<void>): Promise<void> => {
  using client = connect();
  const load = startLoad({
    client,
    callers: 4,
    operation: 'sign',
    act: (caller, correlationId) => caller.sign('orders', { message }, { correlationId }),
  });
  const some = (): Promise<void> =>
    Promise.race([
      load.more(20, 'ok'),
      sleep(PATIENCE_MS, undefined, { ref: false }).then(() => {
        throw new Error(`no 20 answers came: ${JSON.stringify(load.answers.slice(-5))}`);
      }),
    ]);
  try {
    await some();
    await act();
    await some();
  } finally {
    await load.stop();
  }
  const refused = load.answers.filter(({ outcome }) => outcome !== 'ok');
  assert.deepEqual(refused, [], `of ${load.answers.length} answers`);
};

const PIN = '/etc/credstore/pkcs11-pin';
/** The user's PIN at the token, by the agent's own binding: no program of the bare root changes it. */
const setPin = (from: string, to: string): Promise<unknown> =>
  debian.run(`SOFTHSM2_CONF=/etc/mortise/softhsm2.conf runuser -u mortise -- /usr/lib/mortise/bin/node -e "
    const { PKCS11 } = require('/usr/lib/mortise/node_modules/pkcs11js');
    const module = new PKCS11();
    module.load('/usr/lib/softhsm/libsofthsm2.so');
    module.C_Initialize();
    const session = module.C_OpenSession(module.C_GetSlotList(true)[0], 6);
    module.C_Login(session, 1, '${from}');
    module.C_SetPIN(session, '${from}', '${to}');
    module.C_Finalize();"`);

const dropIn = async (name: string, text: string): Promise<void> => {
  const folder = join(debian.root, 'etc/systemd/system/mortise-agent.service.d');
  await mkdir(folder, { recursive: true });
  await writeFile(join(folder, name), text);
};

/** A drop-in as the package has it. */
const example = (name: string): Promise<string> =>
  readFile(join(debian.root, 'usr/share/doc/mortise-agent/examples', name), 'utf8');

before(
  async () => {
    if (skip !== false) return;
    packages = await mkdtemp(join(tmpdir(), 'mortise-packages-'));
    closing.push(() => rm(packages, { recursive: true, force: true }));
    await buildDebianPackages(await stage(join(packages, 'mortise')), EPOCH, join(packages, 'out'));
    debian = await BootedDebian.make();
    closing.push(() => debian[Symbol.asyncDispose]());
    await mkdir(join(debian.root, 'packages'));
    for (const file of await readdir(join(packages, 'out'))) {
      await copyFile(join(packages, 'out', file), join(debian.root, 'packages', file));
    }
  },
  { timeout: 20 * 60_000 },
);
after(async () => {
  for (const close of closing.reverse()) await close();
  closing = [];
});

test('1: a bare Debian takes the packages, and nothing starts before it is configured', { skip }, async () => {
  debian.prepare('dpkg --install /packages/*.deb');
  assert.match(debian.prepare('id mortise'), /^uid=\d+\(mortise\) gid=\d+\(mortise\)/);
  assert.match(debian.prepare('mortise-agent --version; mortise-registry --version'), /^(\d+\.\d+\.\d+\n){2}$/);
  assert.match(debian.prepare('mortise --help'), /Usage: mortise/);
  await makeAgentPolicy(issuer, { tenants: ['acme'], dir: join(debian.root, 'etc/mortise/policy') });
  debian.prepare(`
    chmod -R a+rX /etc/mortise/policy
    printf 'directories.tokendir = /var/lib/softhsm/tokens\nobjectstore.backend = file\n' >/etc/mortise/softhsm2.conf
    printf 'SOFTHSM2_CONF=/etc/mortise/softhsm2.conf\nMORTISE_HOST_ID=booted\n' >>/etc/mortise/agent.env
    mkdir -p /var/lib/softhsm/tokens /etc/credstore
    chown mortise: /var/lib/softhsm /var/lib/softhsm/tokens
    SOFTHSM2_CONF=/etc/mortise/softhsm2.conf runuser -u mortise -- \
      softhsm2-util --init-token --free --label mortise --so-pin 87654321 --pin 123456
    printf 123456 >${PIN}
    chmod 0700 /etc/credstore
    chmod 0600 ${PIN}`);
  await dropIn('softhsm.conf', await example('softhsm.conf'));
  await debian.boot();
  assert.equal(await property('ActiveState'), 'inactive');
});

test('2: enabled, it serves, as its own user, with no privilege and no core dump', { skip }, async () => {
  await debian.run('systemctl enable --now mortise-agent.socket mortise-agent.service');
  await serving();
  using client = connect();
  await client.keys.create({ keyId: 'orders', purpose: 'sign', algorithm: 'EC-P256' });
  const { jws } = await client.sign('orders', { message });
  assert.equal((await client.verify({ jws })).valid, true);
  const pid = await property('MainPID');
  const status = await debian.run(`cat /proc/${pid}/status /proc/${pid}/limits`);
  assert.match(status, /^NoNewPrivs:\t1$/m);
  assert.match(status, /^CapEff:\t0+$/m);
  assert.match(status, /^Seccomp:\t2$/m);
  assert.match(status, /^Max core file size +0 +0 /m);
  assert.equal(
    (await debian.run(`stat --format=%U /proc/${pid}/cwd /var/lib/mortise`)).trim().split('\n').at(-1),
    'mortise',
  );
  assert.equal(
    (await debian.run('stat --format="%U:%G %a" /run/mortise/agent.sock')).trim(),
    'root:mortise-clients 660',
  );
});

test('3: a reload reads the policy folder and ends in service', { skip }, async () => {
  await debian.run('systemctl reload mortise-agent');
  await becomes('the end of the reload', async () => (await property('ActiveState')) === 'active');
  assert.match(await debian.journal('mortise-agent'), /SIGHUP|reload/i);
  await refusesNobody(async () => void (await debian.run('systemctl reload mortise-agent')));
});

test('4: started anew under load it refuses nobody', { skip }, async () => {
  await refusesNobody(async () => {
    for (let round = 0; round < 3; round += 1) {
      const before = await property('MainPID');
      await debian.run('systemctl restart mortise-agent.service');
      assert.notEqual(await property('MainPID'), before);
    }
  });
});

test('5: a new PIN is taken with a restart, under load', { skip }, async () => {
  await setPin('123456', '654321');
  await debian.run(`umask 077; printf 654321 >${PIN}.new; mv ${PIN}.new ${PIN}`);
  await refusesNobody(async () => void (await debian.run('systemctl restart mortise-agent.service')));
  await serving();
});

test('6: the PIN may be on the disk encrypted', { skip }, async () => {
  await debian.run(`mkdir -p -m 0700 /etc/credstore.encrypted
    systemd-creds --with-key=host encrypt --name=pkcs11-pin ${PIN} /etc/credstore.encrypted/pkcs11-pin
    rm ${PIN}`);
  await dropIn('encrypted-pin.conf', await example('encrypted-pin.conf'));
  await debian.run('systemctl daemon-reload; systemctl restart mortise-agent.service');
  await serving();
});

test('7: an agent that hangs is started anew, and its callers are answered', { skip }, async () => {
  await dropIn('watchdog.conf', '[Service]\nWatchdogSec=2s\n');
  await debian.run('systemctl daemon-reload; systemctl restart mortise-agent.service');
  await serving();
  const pid = await property('MainPID');
  await debian.run(`kill -STOP ${pid}`);
  using client = connect();
  const answered = client.sign('orders', { message }, { deadlineMs: PATIENCE_MS });
  await becomes('another process', async () => !['0', pid].includes(await property('MainPID')));
  await serving();
  assert.notEqual((await answered).jws, '');
  assert.match(await debian.run('journalctl --no-pager --unit=mortise-agent'), /[Ww]atchdog timeout/);
});

test('8: an upgrade starts it anew and refuses nobody', { skip }, async () => {
  const before = await property('MainPID');
  await refusesNobody(async () => void (await debian.run('dpkg --install /packages/*.deb', { timeoutMs: 120_000 })));
  assert.notEqual(await property('MainPID'), before);
});

test('9: the registry starts as a service of its own', { skip }, async () => {
  await debian.run(`install -d -o mortise-registry -m 0700 /var/lib/mortise-registry
    runuser -u mortise-registry -- mortise-registry init --trust-domain crypto.test \
      --trust-anchor /etc/mortise/policy/trust-anchor.json
    systemctl enable --now mortise-registry.service`);
  assert.equal(await property('StatusText', 'mortise-registry.service'), 'Serving');
  await debian.run('systemctl reload mortise-registry; systemctl restart mortise-registry');
  assert.equal(await property('ActiveState', 'mortise-registry.service'), 'active');
});

test('10: the machine is rebooted; the log is whole and the keys are there', { skip }, async () => {
  const before = await (async () => {
    using client = connect();
    return await allRecords(client);
  })();
  await debian.reboot();
  await serving();
  using client = connect();
  const records = await allRecords(client);
  assert.ok(before.length > 50, `only ${before.length} records`);
  assert.deepEqual(records.slice(0, before.length), before);
  const { intact, findings } = await client.audit.verify();
  assert.deepEqual([intact, findings], [true, []]);
  const { jws } = await client.sign('orders', { message });
  assert.equal((await client.verify({ jws })).valid, true);
  assert.equal(await property('StatusText', 'mortise-registry.service'), 'Serving');
});

test('11: removed, it leaves keys and logs', { skip }, async () => {
  await debian.run('dpkg --purge mortise-agent 2>&1');
  assert.equal(await property('LoadState'), 'not-found');
  await debian.run('test -d /var/lib/mortise/audit; test ! -e /usr/lib/mortise/agent');
});

test('12: a second build of the packages has the same bytes', { skip }, async () => {
  const again = join(packages, 'again');
  await buildDebianPackages(await stage(join(again, 'mortise')), EPOCH, join(again, 'out'));
  execFileSync('diff', ['--recursive', '--brief', join(packages, 'out'), join(again, 'out')]);
});
