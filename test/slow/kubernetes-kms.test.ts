// The KMS v2 plugin called by Go's gRPC with the options of the API server, stubs made by protoc from the .proto file.
import assert from 'node:assert/strict';
import { execFile, spawnSync } from 'node:child_process';
import { copyFile, mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { promisify } from 'node:util';
import type { MortiseClient } from '../../clients/typescript/index.ts';
import { allRecords, clientOf } from '../e2e/load.ts';
import { type RunningAgent, startAgent } from '../support/agent.ts';

const run = promisify(execFile);
const ROOT = join(import.meta.dirname, '../..');
const IMPORT = 'mortise.example/kms/kmsv2';
const FILE = 'kubernetes/kms/v2/api.proto';
const timeout = 120_000;
const lacks = (name: string, argument: string): boolean => spawnSync(name, [argument]).status !== 0;
const skip =
  lacks('go', 'version') || lacks('protoc', '--version') || lacks('protoc-gen-go-grpc', '--version')
    ? 'needs golang-go, golang-google-grpc-dev, protobuf-compiler, protoc-gen-go and protoc-gen-go-grpc'
    : false;

let folder: string;
let program: string;
let agent: RunningAgent;
let client: MortiseClient;

before(async () => {
  if (skip !== false) return;
  folder = await mkdtemp(join(tmpdir(), 'mortise-kms-go-'));
  const source = join(folder, 'src/mortise.example/kms');
  await mkdir(join(source, 'main'), { recursive: true });
  const mapping = `module=mortise.example/kms,M${FILE}=${IMPORT};kmsv2`;
  const stubs = [`--go_out=${source}`, `--go_opt=${mapping}`, `--go-grpc_out=${source}`, `--go-grpc_opt=${mapping}`];
  await run('protoc', ['-I', join(ROOT, 'proto'), ...stubs, FILE], { timeout });
  await copyFile(join(ROOT, 'test/helm/kms-client.go'), join(source, 'main/main.go'));
  program = join(folder, 'kms-client');
  const env = { ...process.env, GO111MODULE: 'off', GOFLAGS: '', GOPATH: `${folder}:/usr/share/gocode` };
  await run('go', ['build', '-o', program, 'mortise.example/kms/main'], { env, timeout });
  agent = await startAgent({
    env: {
      MORTISE_KMS_SOCKET_PATH: join(folder, 'kms.sock'),
      MORTISE_KMS_TENANT: 'acme',
      MORTISE_KMS_KEY: 'etcd',
      MORTISE_KMS_PEERS: `uid:${process.getuid?.()}`,
    },
  });
  client = clientOf(agent, 'acme');
});
after(async () => {
  client?.close();
  await agent?.stop();
  if (folder !== undefined) await rm(folder, { recursive: true, force: true });
});

const call = async (): Promise<{ keyId: string; annotations: number }> =>
  JSON.parse((await run(program, [join(folder, 'kms.sock')], { timeout })).stdout);

test('a Go client with the options of the API server gets what its rules ask for, before and after a rotation to ML-KEM', {
  skip,
}, async () => {
  await client.keys.create({ keyId: 'etcd', purpose: 'encrypt', algorithm: 'AES-256' });
  const first = await call();
  assert.equal(first.annotations, 0);
  await client.keys.rotate('etcd', { algorithm: 'ML-KEM-768' });
  const second = await call();
  assert.notEqual(second.keyId, first.keyId);
  assert.equal(second.annotations, 1, 'its ciphertext is larger than 1 kB');
  const ids = (await allRecords(client)).map(({ correlationId }) => correlationId);
  assert.equal(ids.filter((id) => id === 'go-decrypt').length, 2);
});
