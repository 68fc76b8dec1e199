// A receipt from a whole agent: an application without any audit scope proves its own operation, by whichever way it was
// made, and can prove nobody else's.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { type MortiseClient, verifyReceipt } from '../../clients/typescript/index.ts';
import { type RunningAgent, startAgent } from '../support/agent.ts';
import { clientOf, refusedWith } from './load.ts';

let agent: RunningAgent;
const clients: MortiseClient[] = [];
const as = (tenant: string, principal: string, ...scopes: string[]): MortiseClient => {
  const client = clientOf(agent, tenant, { principal, scopes });
  clients.push(client);
  return client;
};

before(async () => {
  agent = await startAgent({ tenants: ['acme', 'globex'] });
  await as('acme', 'officer', 'keys.manage').keys.create({ keyId: 'orders', purpose: 'encrypt' });
});
after(async () => {
  for (const client of clients) client.close();
  await agent?.stop();
});

test('proves an operation to who made it, unary, in a pipeline and in a batch', async () => {
  const app = as('acme', 'app', 'crypto.encrypt');
  const data = Buffer.from('x');
  const officer = as('acme', 'officer', 'audit.read');
  const publicJwk = JSON.parse((await officer.audit.checkpoint()).publicJwk) as Record<string, string>;
  const batch = await app.batch((each) => [each.encrypt('orders', data, { correlationId: 'batched' })]);
  const [answer] = batch;
  assert.ok(answer?.status === 'fulfilled');
  const piped = await app.encrypt('orders', data, { correlationId: 'piped' });
  for (const [name, { envelope }] of [
    ['batched', answer.value],
    ['piped', piped],
  ] as const) {
    const { eventId } = envelope;
    const receipt = await app.audit.receipt(eventId);
    const { record, origin } = verifyReceipt(receipt, { publicJwk, eventId });
    assert.deepEqual([record.correlationId, record.operation, record.outcome], [name, 'encrypt', 'ok']);
    assert.deepEqual([record.principal, record.key, record.tenant], ['app', 'orders/1', 'acme']);
    assert.ok(origin.includes('/acme/'));
    assert.equal(receipt.countersigned, false);
  }
});

test('says of records of others and of other tenants that there are none', async () => {
  const { envelope } = await as('acme', 'app', 'crypto.encrypt').encrypt('orders', Buffer.from('x'));
  const unknown = refusedWith('RECORD_UNKNOWN');
  await assert.rejects(as('acme', 'other', 'crypto.encrypt').audit.receipt(envelope.eventId), unknown);
  await assert.rejects(as('globex', 'app', 'audit.read').audit.receipt(envelope.eventId), unknown);
  const once = clientOf(agent, 'acme', { principal: 'app', scopes: [], retry: false });
  clients.push(once);
  const pending = once.audit.receipt(envelope.eventId, { countersigned: true, waitMs: 0 });
  await assert.rejects(pending, refusedWith('RECEIPT_PENDING'), 'there is no registry that could countersign');
  assert.equal(typeof (await as('acme', 'officer', 'audit.read').audit.receipt(envelope.eventId)).proof, 'string');
});
