// The kill loop that the normal and the slow suite share.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { generateKeyPairSync, randomBytes } from 'node:crypto';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { openAuditLog } from '../../../agent/audit/log.ts';
import { verifyStore } from '../../../agent/audit/verify.ts';
import { createToken, recordEvents, SMALL_LIMITS, tempFolder } from './fixture.ts';

const TENANTS = 3;

/** Runs the child until it has acknowledged `lines` records, kills it, and answers what it acknowledged. */
const runAndKill = async (args: readonly string[], lines: number): Promise<string[]> => {
  const child = spawn(process.execPath, [join(import.meta.dirname, 'append-until-killed.ts'), ...args], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  let output = '';
  child.stdout.setEncoding('latin1');
  child.stdout.on('data', (chunk: string) => {
    output += chunk;
    if (output.length > lines * 24) child.kill('SIGKILL');
  });
  const signal = await new Promise((resolve) => child.on('close', (_, name) => resolve(name)));
  assert.equal(signal, 'SIGKILL', `the child ended by itself: ${output.slice(-200)}`);
  return output
    .split('\n')
    .slice(0, -1)
    .filter((line) => line !== 'ready');
};

export const killLoop = async (t: TestContext, options: { kills: number; durability: string }): Promise<void> => {
  const path = tempFolder(t);
  const wrapKey = randomBytes(32);
  const pair = generateKeyPairSync('ed25519');
  const pem = Buffer.from(pair.privateKey.export({ type: 'pkcs8', format: 'pem' })).toString('base64');
  const args = [path, wrapKey.toString('hex'), pem, options.durability, String(TENANTS)];
  const acknowledged: string[] = [];
  for (let kill = 0; kill < options.kills; kill += 1) {
    acknowledged.push(...(await runAndKill(args, 20 + ((kill * 97) % 400))));
    // Every second time the next child itself has to start on what the kill left.
    if (kill % 2 === 1 && kill !== options.kills - 1) continue;
    const token = createToken('Ed25519', wrapKey, pair);
    const events = recordEvents();
    const log = await openAuditLog({
      path,
      host: 'host-1',
      clock: { now: () => Date.now() },
      durability: () => 'committed',
      token,
      events,
      limits: SMALL_LIMITS,
    });
    const stored = new Set<string>();
    for (const tenant of log.tenants()) {
      assert.deepEqual((await log.verify(tenant)).findings, []);
      for (let from = 0; from < log.size(tenant); from += 1000) {
        for (const { record } of await log.list(tenant, { from, limit: 1000 })) {
          stored.add(`${record.tenant} ${record.correlationId}`);
        }
      }
    }
    assert.deepEqual(
      acknowledged.filter((line) => !stored.has(line)),
      [],
    );
    assert.equal(log.health().ok, true);
    await log.close();
  }
  assert.ok(acknowledged.length > options.kills * 20, `only ${acknowledged.length} acknowledged`);
};

/** Verifies the store from this process, again and again, while a child appends to it. */
export const verifyBesideWriter = async (t: TestContext, times: number): Promise<void> => {
  const path = tempFolder(t);
  const wrapKey = randomBytes(32);
  const pair = generateKeyPairSync('ed25519');
  const token = createToken('Ed25519', wrapKey, pair);
  const pem = Buffer.from(pair.privateKey.export({ type: 'pkcs8', format: 'pem' })).toString('base64');
  const args = [path, wrapKey.toString('hex'), pem, 'committed', String(TENANTS)];
  const child = spawn(process.execPath, [join(import.meta.dirname, 'append-until-killed.ts'), ...args], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const closed = new Promise((resolve) => child.on('close', resolve));
  await new Promise((resolve) => child.stdout.once('data', resolve));
  child.stdout.resume();
  let largest = 0;
  // What is acknowledged comes from the journal into the store a moment later.
  const patience = Date.now() + 30_000;
  for (let time = 0; time < times || (largest === 0 && Date.now() < patience); time += 1) {
    const unwrap = (wrapped: Buffer, context: Buffer): Promise<Buffer> => token.unwrap(wrapped, context);
    const found = await verifyStore({ path, unwrap, checkpointKey: token.publicJwk });
    assert.deepEqual(found.findings, []);
    largest = Math.max(largest, ...found.tenants.map(({ size }) => size));
  }
  child.kill('SIGKILL');
  await closed;
  assert.ok(largest > 0, 'the child appended meanwhile');
};
