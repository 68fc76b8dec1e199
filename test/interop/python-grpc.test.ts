// python3-grpcio as Debian ships it calls the socket, whatever way its target names the path.
import assert from 'node:assert/strict';
import { execFile, spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { test } from 'node:test';
import { promisify } from 'node:util';
import { caller, startServer } from '../agent/server/support.ts';

const PYTHON = '/usr/bin/python3';
const SCRIPT = join(import.meta.dirname, 'python-grpc.py');
const DESCRIPTORS = join(import.meta.dirname, '../../proto/gen/descriptors.binpb');
const missing = spawnSync(PYTHON, ['-c', 'import grpc, google.protobuf']).status !== 0;
const options = { skip: missing && 'needs python3-grpcio and python3-protobuf' };

const run = promisify(execFile);
const python = async (target: string, method: string, request: object = {}, metadata: object = {}) => {
  const args = [SCRIPT, target, DESCRIPTORS, method, JSON.stringify(request), JSON.stringify(metadata)];
  return JSON.parse((await run(PYTHON, args, { maxBuffer: 8 * 1024 * 1024 })).stdout) as Record<string, unknown>;
};

const WHO_AM_I = '/mortise.agent.v1.StatusService/WhoAmI';

test('python3-grpcio calls by "unix:" and "unix://" targets, with its token and its uid', options, async (t) => {
  const seen: (readonly string[])[] = [];
  const { path, audit } = await startServer(t, {
    authenticate: async ({ authorization }) => {
      seen.push(authorization);
      return caller();
    },
  });
  for (const target of [`unix:${path}`, `unix://${path}`]) {
    const metadata = { authorization: 'Bearer token', 'x-correlation-id': 'python-1' };
    const { answer } = (await python(target, WHO_AM_I, {}, metadata)) as { answer: Record<string, unknown> };
    assert.equal(answer['tenant'], 'blue');
    assert.equal(answer['uid'] ?? 0, process.getuid?.()); // MessageToDict leaves zeros out
    assert.deepEqual(seen.pop(), ['Bearer token']);
    assert.equal(audit.pop()?.correlationId, 'python-1');
  }
});

test('python3-grpcio gets data and typed failures', options, async (t) => {
  const { path } = await startServer(t);
  const random = '/mortise.agent.v1.CryptoService/GenerateRandom';
  const { answer } = (await python(`unix:${path}`, random, { length: 1024 * 1024 })) as { answer: { random: string } };
  assert.equal(Buffer.from(answer.random, 'base64').compare(Buffer.alloc(1024 * 1024, 7)), 0);
  const failure = await python(`unix:${path}`, '/mortise.agent.v1.AuditService/ListRecords', { page_size: 5000 });
  assert.deepEqual(failure, {
    status: 'INVALID_ARGUMENT',
    message: 'page_size: from 1 to 1000, or 0 for 100',
    reason: 'INVALID_REQUEST',
  });
});
