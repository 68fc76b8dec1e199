// The KMS plugin on a real socket over the cryptographic world of the operations' tests, and a client for it.
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { credentials } from '@grpc/grpc-js';
import { createKmsServer, type KmsServerParts } from '../../../../agent/server/kms/kms-server.ts';
import {
  type DecryptRequest,
  type EncryptResponse,
  KeyManagementServiceClient,
  type StatusResponse,
} from '../../../../proto/gen/kubernetes/kms/v2/api.ts';
import { FakeToken } from '../../../fakes/token.ts';
import { temporaryFolder } from '../../../support/folder.ts';
import { CryptoWorld } from '../../operations/crypto-world.ts';
import { ask } from '../support.ts';

export const KEY = 'etcd';
const TENANT = 'acme'; // the tenant of the world's keys
const PATIENCE_MS = 30_000;

export const kmsClientOf = (t: Pick<TestContext, 'after'>, path: string) => {
  const client = new KeyManagementServiceClient(`unix:${path}`, credentials.createInsecure(), {
    'grpc.use_local_subchannel_pool': 1,
    'grpc.default_authority': 'localhost',
  });
  t.after(() => client.close());
  const deadline = () => ({ deadline: Date.now() + PATIENCE_MS });
  return {
    status: () => ask(client, client.status as never, {}, deadline()) as Promise<StatusResponse>,
    encrypt: (plaintext: Buffer, uid = 'u-1') =>
      ask(client, client.encrypt as never, { plaintext, uid }, deadline()) as Promise<EncryptResponse>,
    decrypt: async (sealed: EncryptResponse, change: Partial<DecryptRequest> = {}): Promise<Buffer> => {
      const request = { ...sealed, uid: 'u-2', ...change };
      const answer = (await ask(client, client.decrypt as never, request, deadline())) as { plaintext: Buffer };
      return answer.plaintext;
    },
  };
};

/** `problem` and `notOpen` say what the rest of the agent would. */
export const startKms = async (t: TestContext, change: Partial<KmsServerParts> = {}) => {
  const token = new FakeToken();
  const world = new CryptoWorld(token);
  t.after(() => Promise.all([world.pool.close(), world.postQuantum.close()]));
  const path = join(temporaryFolder(t), 'kms.sock');
  const refusals: object[] = [];
  const said: { problem?: string; notOpen?: string } = {};
  const nothing = (): void => undefined;
  const server = await createKmsServer({
    ports: world.ports,
    key: KEY,
    tenant: TENANT,
    peers: { uids: [process.getuid?.() ?? 0], gids: [] },
    socket: { path, mode: 0o600 },
    opened: async () => undefined,
    notOpen: () => said.notOpen,
    problem: () => said.problem,
    suspect: nothing,
    refuse: async (refusal) => void refusals.push(refusal),
    events: {
      listening: nothing,
      drained: nothing,
      connectionOpened: nothing,
      connectionClosed: nothing,
      connectionCut: nothing,
      callFinished: nothing,
      refused: nothing,
    },
    clock: world.ports.clock,
    limits: { defaultDeadlineMs: 30_000, maxDeadlineMs: 60_000 },
    ...change,
  });
  t.after(() => server.close(0));
  return { world, token, path, refusals, said, server, client: kmsClientOf(t, path) };
};
