// Who may call the KMS plugin, and what else can be reached on its socket.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { status } from '@grpc/grpc-js';
import { authenticateKms } from '../../../../agent/server/kms/peers.ts';
import { askRaw, failsWith, startServer } from '../support.ts';
import { startKms } from './support.ts';

const none = Buffer.alloc(0);

test('a peer of a listed uid or gid is the API server of the configured tenant, with scopes to encrypt and decrypt', async () => {
  const authenticate = authenticateKms({
    tenant: 'kubernetes',
    peers: { uids: [0], gids: [998] },
    refused: () => assert.fail('nobody is refused here'),
  });
  for (const peer of [
    { uid: 0, gid: 5, pid: 1 },
    { uid: 5, gid: 998, pid: 1 },
  ]) {
    const { tenant, principal, scopes } = await authenticate({ peer, authorization: [] });
    assert.deepEqual([tenant, principal], ['kubernetes', 'kubernetes:apiserver']);
    assert.deepEqual([...scopes].sort(), ['agent.status', 'crypto.decrypt', 'crypto.encrypt']);
  }
});

test('anyone else is refused whatever token comes along, and the refusal is recorded with uid and operation', async (t) => {
  const told: object[] = [];
  const nothing = (): void => undefined;
  const { client, refusals, world } = await startKms(t, {
    peers: { uids: [(process.getuid?.() ?? 0) + 1], gids: [(process.getgid?.() ?? 0) + 1] },
    events: {
      refused: (event) => void told.push(event),
      listening: nothing,
      drained: nothing,
      connectionOpened: nothing,
      connectionClosed: nothing,
      connectionCut: nothing,
      callFinished: nothing,
    },
  });
  const refused = failsWith(status.UNAUTHENTICATED, 'UNAUTHENTICATED');
  await assert.rejects(client.status(), refused);
  await assert.rejects(client.encrypt(Buffer.alloc(32)), refused);
  assert.deepEqual(
    refusals.map((row) => (row as { operation: string }).operation),
    ['get-status', 'encrypt'],
  );
  assert.equal(told.length, 2);
  assert.deepEqual(world.records, []);
});

test("the plugin's socket has nothing of the agent's own services, and the agent's socket has no plugin", async (t) => {
  const kms = await startKms(t);
  const agent = await startServer(t);
  for (const path of ['/mortise.agent.v1.StatusService/WhoAmI', '/grpc.health.v1.Health/Check']) {
    await assert.rejects(askRaw(kms.path, path, none), { code: status.UNIMPLEMENTED });
  }
  for (const rpc of ['Status', 'Encrypt', 'Decrypt']) {
    const path = `/v2.KeyManagementService/${rpc}`;
    await assert.rejects(askRaw(agent.path, path, none), { code: status.UNIMPLEMENTED });
  }
});

test('a message that is no protobuf is refused and recorded', async (t) => {
  const { path, world } = await startKms(t);
  for (const rpc of ['Encrypt', 'Decrypt', 'Status']) {
    const refused = failsWith(status.INVALID_ARGUMENT, 'INVALID_REQUEST');
    await assert.rejects(askRaw(path, `/v2.KeyManagementService/${rpc}`, Buffer.from([0xff, 0xff])), refused);
  }
  assert.deepEqual(
    world.records.map(({ operation, outcome }) => [operation, outcome]),
    [
      ['encrypt', 'INVALID_REQUEST'],
      ['decrypt', 'INVALID_REQUEST'],
      ['get-status', 'INVALID_REQUEST'],
    ],
  );
});
