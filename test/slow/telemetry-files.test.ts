// The alert rules as Prometheus reads them, by its own promtool: that of the machine, or out of Debian's package, which is
// unpacked and not installed, because installing it would start a server.
import assert from 'node:assert/strict';
import { execFile, spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { homedir, tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { promisify } from 'node:util';

const run = promisify(execFile);
const FOLDER = join(import.meta.dirname, '../../docs/telemetry');
const CACHE = join(homedir(), '.cache/mortise/promtool');
const hasDebian = spawnSync('apt-get', ['--version']).status === 0;

const promtool = async (): Promise<string> => {
  if (spawnSync('promtool', ['--version']).status === 0) return 'promtool';
  const program = join(CACHE, 'usr/bin/promtool');
  if (existsSync(program)) return program;
  const folder = mkdtempSync(join(tmpdir(), 'mortise-promtool-'));
  try {
    await run('apt-get', ['download', '-qq', 'prometheus'], { cwd: folder, timeout: 300_000 });
    const [file] = readdirSync(folder).filter((name) => name.endsWith('.deb'));
    assert.ok(file, 'apt-get downloaded no package');
    mkdirSync(CACHE, { recursive: true });
    await run('dpkg-deb', ['-x', join(folder, file), CACHE], { timeout: 300_000 });
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
  return program;
};

test('promtool finds no fault in the alert rules, and each fires on what it is for', {
  skip: !hasDebian && 'needs promtool',
}, async () => {
  const program = await promtool();
  const checked = await run(program, ['check', 'rules', 'alerts.yml'], { cwd: FOLDER });
  assert.match(checked.stdout, /SUCCESS: \d\d rules found/);
  await run(program, ['test', 'rules', 'alerts.test.yml'], { cwd: FOLDER });
});
