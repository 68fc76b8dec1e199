// GetReceipt: who may ask for what, and for how long a call may wait.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { AgentError } from '../../../agent/errors.ts';
import { getReceipt } from '../../../agent/operations/get-receipt.ts';
import type { AuditReadPorts } from '../../../agent/operations/list-audit-records.ts';
import type { ReceiptQuestion } from '../../../agent/operations/ports/audit-log.ts';
import type { Call } from '../../../agent/operations/ports/call.ts';
import { FakeToken } from '../../fakes/token.ts';
import { aCall, CryptoWorld } from './crypto-world.ts';

const setUp = (owner = 'somebody') => {
  const world = new CryptoWorld(new FakeToken());
  const asked: { tenant: string; question: ReceiptQuestion }[] = [];
  const receipt = async (tenant: string, question: ReceiptQuestion) => {
    asked.push({ tenant, question });
    if (!question.mayRead(owner)) throw new AgentError('RECORD_UNKNOWN');
    return { proof: 'p', record: Buffer.of(1), mac: Buffer.of(2), publicJwk: '{}', countersigned: false };
  };
  const ports = { ...world.ports, auditLog: { receipt } } as unknown as AuditReadPorts;
  return { world, ports, asked };
};

const withScopes = (call: Call, ...scopes: string[]): Call => ({
  ...call,
  caller: { ...call.caller, scopes: new Set(scopes) as Call['caller']['scopes'] },
});
const input = { eventId: 'h-1/1/7', waitMs: 0, countersigned: false };

test('is for own records without a scope, and for others with audit.read, of the own tenant', async () => {
  const call = aCall();
  const own = setUp(call.caller.principal);
  assert.equal((await getReceipt(own.ports, withScopes(call), input)).value.proof, 'p');
  const other = setUp();
  await assert.rejects(getReceipt(other.ports, withScopes(call, 'crypto.sign'), input), { code: 'RECORD_UNKNOWN' });
  assert.equal((await getReceipt(other.ports, withScopes(call, 'audit.read'), input)).value.proof, 'p');
  for (const { tenant } of [...own.asked, ...other.asked]) assert.equal(tenant, call.caller.tenant);
});

test('is itself recorded, with the record that was asked for', async () => {
  const { world, ports } = setUp();
  await assert.rejects(getReceipt(ports, withScopes(aCall()), input), { code: 'RECORD_UNKNOWN' });
  const { operation, outcome, detail } = world.lastRecord;
  assert.deepEqual([operation, outcome, detail?.['eventId']], ['get-receipt', 'RECORD_UNKNOWN', 'h-1/1/7']);
});

test('waits no longer than the call may last, and refuses longer waits and what is no event id', async () => {
  const { world, ports, asked } = setUp();
  const call = { ...withScopes(aCall(), 'audit.read'), deadline: world.ports.clock.now() + 1200 };
  await getReceipt(ports, call, { ...input, waitMs: 10_000 });
  assert.ok((asked[0]?.question.waitMs ?? 10_000) <= 1000);
  await assert.rejects(getReceipt(ports, call, { ...input, waitMs: 10_001 }), { code: 'INVALID_REQUEST' });
  for (const eventId of ['', 'h-1', 'h-1/1', 'h-1/01/1', 'h-1/1/-1', `h-1/1/${'9'.repeat(17)}`, 'x'.repeat(70_000)]) {
    await assert.rejects(getReceipt(ports, call, { ...input, eventId }), { code: 'INVALID_REQUEST' });
  }
  assert.equal(asked.length, 1);
});
