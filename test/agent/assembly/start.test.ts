// The pieces that hold calls and events while the agent starts.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { AuditSlot } from '../../../agent/assembly/audit-slot.ts';
import { Gate } from '../../../agent/assembly/gate.ts';
import { PinGuard } from '../../../agent/assembly/pin-guard.ts';
import { Recorder } from '../../../agent/assembly/recorder.ts';
import { TokenSlot } from '../../../agent/assembly/token-slot.ts';
import type { AuditLog } from '../../../agent/audit/types.ts';
import { AgentError } from '../../../agent/errors.ts';
import type { AuditEvent } from '../../../agent/operations/ports/audit.ts';
import { TokenStartError } from '../../../agent/token/start-error.ts';
import type { Token } from '../../../agent/token/token.ts';

const event = (operation: string): AuditEvent => ({
  tenant: '_platform',
  principal: 'agent',
  key: '-',
  algorithm: '-',
  operation,
  outcome: 'ok',
  correlationId: operation,
});

test('the gate lets calls wait for the first outcome, then pass or fail with its reason', async () => {
  const gate = new Gate();
  const waiting = gate.pass();
  const reason = new AgentError('HSM_UNAVAILABLE');
  gate.block(reason);
  await assert.rejects(waiting, reason);
  await assert.rejects(gate.pass(), reason);
  gate.open();
  await gate.pass();
  gate.block(reason);
  await gate.pass(); // what comes later is for the operations to meet
  assert.equal(gate.blockedBy, undefined);
});

test('the audit log refuses before it is open, and lets those wait who may', async () => {
  const slot = new AuditSlot();
  await assert.rejects(slot.append(event('sign')), { code: 'AUDIT_UNAVAILABLE' });
  const waiting = slot.appendOnceOpen(event('load-policy'));
  const seen: string[] = [];
  slot.set({ append: async ({ operation }: AuditEvent) => void seen.push(operation) } as unknown as AuditLog);
  await waiting;
  await slot.append(event('sign'));
  assert.deepEqual(seen, ['load-policy', 'sign']);
});

test('an audit log that is given up lets nobody wait for ever', async () => {
  const slot = new AuditSlot();
  const waiting = slot.appendOnceOpen(event('load-policy'));
  slot.giveUp();
  await assert.rejects(waiting, { code: 'SHUTTING_DOWN' });
  await slot.close();
});

test('events of the agent are recorded in order, also those that came while the log could not take them', async () => {
  const taken: string[] = [];
  const failures: string[] = [];
  let works = false;
  const recorder = new Recorder({
    append: async ({ operation }) => {
      if (!works) throw new AgentError('AUDIT_UNAVAILABLE');
      taken.push(operation);
    },
    failed: ({ operation }) => void failures.push(operation),
  });
  await recorder.record('agent-start', {});
  await recorder.record('token-restart', {});
  assert.deepEqual([taken, failures.length > 0], [[], true]);
  works = true;
  await recorder.flush();
  await recorder.record('agent-stop', {});
  assert.deepEqual(taken, ['agent-start', 'token-restart', 'agent-stop']);
});

test('events that cannot be recorded are bounded in number', async () => {
  const taken: string[] = [];
  let works = false;
  const recorder = new Recorder({
    append: async ({ correlationId }) => {
      if (!works) throw new AgentError('AUDIT_UNAVAILABLE');
      taken.push(correlationId);
    },
    failed: () => undefined,
  });
  for (let count = 0; count < 500; count += 1) await recorder.record('token-restart', {});
  works = true;
  await recorder.flush();
  assert.equal(taken.length, 64);
  assert.match(taken.at(-1) ?? '', /-500$/, 'the newest are kept');
});

const slotWith = (attempts: (() => Promise<Token>)[]) => {
  const waits: number[] = [];
  const pin = new PinGuard({ read: async () => Buffer.from('1234') });
  const slot = new TokenSlot({
    name: 'main',
    maxWaitMs: 4000,
    random: () => 1,
    pin,
    open: () => (attempts.shift() ?? (() => Promise.reject(new Error('no more'))))(),
    events: { waiting: ({ waitMs }) => void waits.push(waitMs) },
  });
  return { slot, waits, pin };
};

test('a token that is away is tried until it is there; until then every call says so', async () => {
  const token = { close: async () => undefined, health: () => ({ healthy: true, state: 'ready', detail: '' }) };
  const away = () => Promise.reject(new TokenStartError('token-missing', 'no token is labelled "x"'));
  const { slot, waits } = slotWith([away, away, async () => token as unknown as Token]);
  const call = { tenant: 'acme', deadline: 0, signal: AbortSignal.timeout(1000) };
  let failures = 0;
  const started = slot.start(() => {
    failures += 1;
    void slot.retry(); // an operator who does not want to wait
  });
  await assert.rejects(slot.random(1, call), { code: 'HSM_UNAVAILABLE' });
  assert.equal(slot.canHold('AES-256', 'encrypt').ok, false);
  await started;
  assert.equal(failures, 2);
  assert.deepEqual(waits, [500, 1000], 'waits grow');
  assert.equal(slot.health().healthy, true);
  await slot.close();
});

test('a refused PIN is kept from the next attempt', async () => {
  const { slot, pin } = slotWith([
    () => pin.take().then(() => Promise.reject(new TokenStartError('pin-refused', 'wrong'))),
  ]);
  const started = slot.start(() => undefined).catch((error: AgentError) => error.code);
  await new Promise((resolve) => setImmediate(resolve));
  await assert.rejects(pin.take(), /the one that the token refused/);
  assert.match(slot.health().detail, /wrong/);
  await slot.close();
  assert.equal(await started, 'SHUTTING_DOWN');
});

test('closing ends a wait at once', async () => {
  const { slot } = slotWith([]);
  const started = slot.start(() => undefined).catch((error: AgentError) => error.code);
  await new Promise((resolve) => setImmediate(resolve));
  await slot.close();
  assert.equal(await started, 'SHUTTING_DOWN');
});
