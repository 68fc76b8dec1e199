import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { loadConfig } from '../../agent/config/config.ts';
import { SystemdNotifier } from '../../agent/systemd.ts';
import { loadConfig as loadRegistryConfig } from '../../registry/config/config.ts';
import { listeningSocket, readDatagram, SOCK_DGRAM } from '../support/unix-socket.ts';

const PATIENCE_MS = 30_000;

const listen = (t: TestContext): { readonly path: string; next(): Promise<string>; rest(): string[] } => {
  const folder = mkdtempSync(join(tmpdir(), 'mortise-systemd-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  const path = join(folder, 'notify.sock');
  const fd = listeningSocket(path, SOCK_DGRAM);
  const read = (): string | undefined => {
    try {
      return readDatagram(fd);
    } catch {
      return undefined; // none yet: Node has no event for a datagram socket of Unix
    }
  };
  return {
    path,
    next: async () => {
      const until = performance.now() + PATIENCE_MS;
      for (let text = read(); ; text = read()) {
        if (text !== undefined) return text;
        if (performance.now() > until) throw new Error('systemd was told nothing');
        await sleep(2);
      }
    },
    rest: () => {
      const all: string[] = [];
      for (let text = read(); text !== undefined; text = read()) all.push(text);
      return all;
    },
  };
};

test('a watched service gives signs of life until it is disposed of', async (t) => {
  const systemd = listen(t);
  {
    using _notifier = new SystemdNotifier({ notifySocket: systemd.path, watchdogMs: 10 });
    for (let sign = 0; sign < 3; sign += 1) assert.equal(await systemd.next(), 'WATCHDOG=1');
  }
  systemd.rest();
  await sleep(30); // three times as long as a sign would take
  assert.deepEqual(systemd.rest(), []);
});

test('a loop that hangs gives no sign of life', async (t) => {
  const systemd = listen(t);
  using _notifier = new SystemdNotifier({ notifySocket: systemd.path, watchdogMs: 10 });
  await systemd.next();
  systemd.rest();
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 100);
  assert.deepEqual(systemd.rest(), []);
});

test('a reload is told from its beginning to its end, also where it fails', async (t) => {
  const systemd = listen(t);
  using notifier = new SystemdNotifier({ notifySocket: systemd.path, watchdogMs: undefined });
  let during: string[] = [];
  await notifier.reload(async () => {
    during = systemd.rest();
  });
  assert.equal(during.length, 1);
  const [, micros] = /^RELOADING=1\nMONOTONIC_USEC=(\d+)$/.exec(during[0] as string) as RegExpExecArray;
  const now = Number(process.hrtime.bigint() / 1000n);
  assert.ok(Number(micros) <= now && Number(micros) > now - 60e6);
  assert.deepEqual(systemd.rest(), ['READY=1']);
  await assert.rejects(
    notifier.reload(() => Promise.reject(new Error('no policy'))),
    /no policy/,
  );
  assert.equal(systemd.rest().at(-1), 'READY=1');
});

test('where nobody asked nothing is told', async () => {
  using notifier = new SystemdNotifier({ notifySocket: undefined, watchdogMs: 10 });
  notifier.tell('READY=1');
  await notifier.reload(() => Promise.resolve());
});

test('the watchdog is that of this process, in agent and registry', () => {
  const watched = { WATCHDOG_USEC: '30000000', PKCS11_PIN_FILE: '/pin' };
  for (const load of [loadConfig, loadRegistryConfig]) {
    assert.equal(load(watched).config.watchdogMs, 30_000);
    assert.equal(load({ ...watched, WATCHDOG_PID: String(process.pid) }).config.watchdogMs, 30_000);
    assert.equal(load({ ...watched, WATCHDOG_PID: '1' }).config.watchdogMs, undefined);
    assert.equal(load({ PKCS11_PIN_FILE: '/pin' }).config.watchdogMs, undefined);
  }
});
