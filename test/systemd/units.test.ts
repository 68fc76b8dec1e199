// The units as systemd's own programs judge them, without a running systemd.
import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { DEBIAN_PACKAGES } from '../../systemd/package/debian-packages.ts';

const UNITS = join(import.meta.dirname, '../../systemd');
const SERVICES = ['mortise-agent', 'mortise-registry'];
const MOST_EXPOSURE = 2.0;
const absent = spawnSync('systemd-analyze', ['--version']).status === 0 ? false : 'systemd-analyze is not installed';

const directives = (file: string): string[] =>
  readFileSync(join(UNITS, file), 'utf8')
    .split('\n')
    .filter((line) => line !== '' && !line.startsWith('#') && !line.startsWith('['));

test('systemd takes the units without a complaint', { skip: absent }, (t) => {
  const root = mkdtempSync(join(tmpdir(), 'mortise-units-'));
  t.after(() => rmSync(root, { recursive: true, force: true }));
  const folder = join(root, 'units');
  mkdirSync(folder);
  for (const file of readdirSync(UNITS).filter((name) => /\.(service|socket)$/.test(name))) {
    // What is not here but on the host of the package: its programs and manual pages.
    const text = readFileSync(join(UNITS, file), 'utf8')
      .replace(/^ExecStart=.*$/m, 'ExecStart=/bin/true')
      .replace(/^Documentation=.*$/m, '');
    writeFileSync(join(folder, file), text);
  }
  for (const example of readdirSync(join(UNITS, 'examples'))) {
    const dropIns = join(folder, 'mortise-agent.service.d');
    mkdirSync(dropIns, { recursive: true });
    cpSync(join(UNITS, 'examples', example), join(dropIns, example));
  }
  const units = readdirSync(folder).filter((name) => !name.endsWith('.d'));
  assert.equal(units.length, 3);
  const { status, stderr } = spawnSync(
    'systemd-analyze',
    ['verify', '--man=no', ...units.map((unit) => join(folder, unit))],
    {
      encoding: 'utf8',
      env: { PATH: process.env['PATH'], SYSTEMD_UNIT_PATH: `${folder}:` },
    },
  );
  assert.equal(stderr.replaceAll(/^.*(?:snapd|dbus).*\n/gm, ''), '');
  assert.equal(status, 0);
});

for (const service of SERVICES) {
  test(`the exposure of ${service} is at most ${MOST_EXPOSURE.toFixed(1)}`, { skip: absent }, () => {
    const args = ['security', '--offline=true', '--no-pager', join(UNITS, `${service}.service`)];
    const text = String(execFileSync('systemd-analyze', args));
    const exposure = Number(/Overall exposure level for .*: (\d+\.\d+)/.exec(text)?.[1]);
    assert.ok(exposure > 0 && exposure <= MOST_EXPOSURE, `${exposure}\n${text}`);
  });

  test(`${service} is of type notify, is watched, dumps no core and runs as a user of its own`, () => {
    const lines = directives(`${service}.service`);
    for (const line of [
      'Type=notify',
      'WatchdogSec=30s',
      'LimitCORE=0',
      'NoNewPrivileges=yes',
      'CapabilityBoundingSet=',
    ]) {
      assert.ok(lines.includes(line), line);
    }
    const user = lines.find((line) => line.startsWith('User='))?.slice('User='.length);
    const users = readFileSync(join(UNITS, `${service}.sysusers`), 'utf8');
    assert.match(users, new RegExp(`^u ${user} - `, 'm'));
  });
}

test('callers are known to the agent by user ids, so it is in no user namespace', () => {
  assert.ok(!directives('mortise-agent.service').some((line) => /^(PrivateUsers|DynamicUser)=yes/.test(line)));
});

test('every file of the folder is in a package, and its configuration is kept over upgrades', () => {
  const packaged = DEBIAN_PACKAGES.flatMap(({ files = {} }) => Object.entries(files));
  const names = readdirSync(UNITS, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && !entry.parentPath.includes('/package'))
    .map((entry) => join(entry.parentPath, entry.name).slice(UNITS.length + 1));
  assert.deepEqual(packaged.map(([name]) => name).sort(), names.sort());
  assert.deepEqual(
    packaged.filter(([, to]) => to.startsWith('/etc/')).map(([, to]) => to),
    ['/etc/mortise/agent.env', '/etc/mortise/registry.env'],
  );
});
