// One operation, three doors: every unary RPC as a call of its own, through the pipeline and in a batch, on a whole agent,
// for three tenants that differ in nothing but their names. Answers, errors and audit records have to be the same.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { Credentials } from '../../clients/typescript/credentials.ts';
import { MortiseError, operationError } from '../../clients/typescript/errors.ts';
import { METHODS, type UnaryName } from '../../clients/typescript/methods.ts';
import { NO_RETRY } from '../../clients/typescript/retry.ts';
import { Transport } from '../../clients/typescript/transport.ts';
import type { BatchResponse, PipelineCall } from '../../proto/gen/mortise/agent/v1/pipeline.ts';
import { type RunningAgent, startAgent } from '../support/agent.ts';
import { allRecords, assertRecorded, clientOf, startLoad } from './load.ts';

const TENANTS = ['alfa', 'beta', 'zeta'] as const; // names of one length, so that all texts are of one length
const DOORS = ['unary', 'pipeline', 'batch'] as const;
type Door = (typeof DOORS)[number];
type AnyRequest = Record<string, unknown>;

const NOTHING = Buffer.alloc(0);
const DATA = Buffer.from('the same for all');
const DIGEST = Buffer.alloc(32, 7);
const message = { $case: 'message', value: DATA };

let agent: RunningAgent;
const transports: Transport[] = [];

const transportOf = (tenant: string, kind: 'unary' | 'pipeline', token = agent.issuer.issue({ tenant })): Transport => {
  const credentials = new Credentials({ source: token, reuse: true });
  const made = new Transport({ socketPath: agent.socket, credentials, deadlineMs: 30_000, retry: NO_RETRY, kind });
  transports.push(made);
  return made;
};

before(async () => {
  agent = await startAgent({
    tenants: TENANTS,
    platform: { rateLimits: { operationsPerSecond: 100_000, burst: 100_000 } },
  });
});
after(async () => {
  for (const transport of transports) transport.close();
  await agent?.stop();
});

/** Makes calls through one door; the same raw requests and answers for all of them. */
const through = (door: Door, transport: Transport) => {
  return async (name: UnaryName, request: AnyRequest, correlationId: string): Promise<AnyRequest> => {
    const ask = transport.call.bind(transport) as (
      name: string,
      request: unknown,
      options: object,
    ) => Promise<AnyRequest>;
    if (door !== 'batch') return ask(name, request, { correlationId });
    const call = { sequence: 1, timeoutMs: 0, correlationId, request: { $case: name, value: request } } as PipelineCall;
    const { answers } = (await ask('batch', { calls: [call] }, {})) as unknown as BatchResponse;
    const answer = answers[0]?.answer;
    if (answer === undefined) throw new Error('the batch has no answer');
    if (answer.$case === 'error') throw operationError(answer.value, correlationId);
    return answer.value as unknown as AnyRequest;
  };
};

/** What differs between any two calls. */
const CHANCE: readonly (readonly [RegExp, string])[] = [
  [/alfa|beta|zeta/g, 'tenant'],
  [/\d{4}-\d\d-\d\dT[\d:.]+Z/g, 'a time'],
  [/[A-Za-z0-9_-]{24,}/g, 'hex or base64url'],
  [/^test-host\/\d+\/\d+$/g, 'an event'],
];

/** What must be equal: bytes and long texts by their length, times not at all, the tenant by another name. */
const comparable = (value: unknown): unknown => {
  if (Buffer.isBuffer(value)) return `${value.length} bytes`;
  if (value instanceof Date) return 'a time';
  if (typeof value === 'bigint') return String(value);
  if (typeof value === 'string') {
    if (value.length > 60 && !value.startsWith('{')) return `text of ${value.length}`;
    return CHANCE.reduce((text, [pattern, word]) => text.replaceAll(pattern, word), value);
  }
  if (Array.isArray(value)) return value.map(comparable);
  if (typeof value !== 'object' || value === null) return value;
  // The canonical bytes hold the number of the event, whose length grows.
  const entries = Object.entries(value).filter(([key]) => key !== 'canonical');
  return Object.fromEntries(entries.map(([key, row]) => [key, comparable(row)]));
};

type Script = (ask: (name: UnaryName, request: AnyRequest) => Promise<AnyRequest>) => Promise<void>;

const keyRequest = (keyId: string, purpose: string, algorithm: string): AnyRequest => ({
  keyId,
  purpose: `PURPOSE_${purpose}`,
  algorithm,
  joseAlgorithm: '',
  labels: {},
  limits: undefined,
  grants: [],
  activationTime: undefined,
});

const cryptography: Script = async (ask) => {
  await ask('createKey', keyRequest('aes', 'ENCRYPT', 'AES-256'));
  await ask('createKey', keyRequest('ec', 'SIGN', 'EC-P256'));
  await ask('createKey', keyRequest('hmac', 'MAC', 'HMAC-SHA256'));
  const { jwe } = await ask('encrypt', { key: 'aes', plaintext: DATA, associatedData: NOTHING });
  assert.deepEqual((await ask('decrypt', { jwe, key: '', associatedData: NOTHING }))['plaintext'], DATA);
  const wrong = await ask('decrypt', { jwe, key: '', associatedData: DATA });
  assert.equal(wrong['code'], 'INVALID_CIPHERTEXT');
  const { jws } = await ask('sign', {
    key: 'ec',
    input: message,
    form: 'SIGNATURE_FORM_JWS_COMPACT',
    type: 'JOSE',
    context: NOTHING,
  });
  const signature = { $case: 'jws', value: jws };
  assert.equal(
    (await ask('verify', { key: '', signature, input: undefined, version: 0, context: NOTHING }))['valid'],
    true,
  );
  const digest = { $case: 'digest', value: DIGEST };
  await ask('sign', { key: 'ec', input: digest, form: 'SIGNATURE_FORM_RAW', type: '', context: NOTHING });
  const { mac } = await ask('mac', { key: 'hmac', message: DATA });
  assert.equal((await ask('verifyMac', { key: 'hmac', message: DATA, mac, version: 0 }))['valid'], true);
  assert.equal((await ask('verifyMac', { key: 'hmac', message: DATA, mac: DIGEST, version: 0 }))['valid'], false);
  await ask('generateRandom', { length: 40 });
  const { publicKey } = await ask('getPublicKey', { key: 'ec', version: 0, format: 'PUBLIC_KEY_FORMAT_JWK' });
  assert.equal(
    (await ask('verifyWith', { publicJwk: publicKey, signature, input: undefined, context: NOTHING }))['valid'],
    true,
  );
  const other = await ask('createKey', keyRequest('rsa', 'ENCRYPT', 'RSA-2048'));
  assert.ok(other['key']);
  const rsa = await ask('getPublicKey', { key: 'rsa', version: 0, format: 'PUBLIC_KEY_FORMAT_JWK' });
  await ask('encryptTo', { publicJwk: rsa['publicKey'], plaintext: DATA, associatedData: NOTHING });
};

const lifecycle: Script = async (ask) => {
  const key = 'ec';
  await ask('getKey', { key });
  await ask('listKeys', {
    pageSize: 2,
    pageToken: '',
    purpose: 'PURPOSE_UNSPECIFIED',
    states: [],
    labels: {},
    prefix: '',
  });
  await ask('updateKey', { key, labels: { labels: { a: 'b' } }, limits: undefined, grants: undefined, revision: 0n });
  await ask('rotateKey', { key, algorithm: '', joseAlgorithm: '', expectedVersion: 1, acceptLoss: false });
  await ask('suspendKey', { key, reason: 'why' });
  const refused = await ask('sign', { key, input: message, form: 'SIGNATURE_FORM_RAW', type: '', context: NOTHING });
  assert.equal(refused['code'], 'KEY_STATE');
  await ask('resumeKey', { key, reason: '' });
  await ask('destroyKey', { key, reason: '' });
  await ask('restoreKey', { key, reason: '' });
  await ask('revokeKey', { key, version: 1, reason: 'done' });
  await ask('rotateTenantKek', {});
};

const reading: Script = async (ask) => {
  await ask('whoAmI', {});
  await ask('getStatus', {});
  await ask('explain', { operation: 'sign', key: 'ec', algorithm: '' });
  await ask('listRecords', { from: 0n, pageSize: 3, newest: false });
  await ask('getCheckpoint', {});
  await ask('verifyLog', { trustedCheckpoint: '' });
};

/** What goes wrong in each way that a caller can bring about, by the code that it has to be. */
const errors: Readonly<Record<string, readonly [UnaryName, AnyRequest]>> = {
  KEY_UNKNOWN: ['encrypt', { key: 'nothing', plaintext: DATA, associatedData: NOTHING }],
  PERMISSION_DENIED: ['getKey', { key: 'other/key' }],
  INVALID_REQUEST: ['encrypt', { key: 'Not A Key', plaintext: DATA, associatedData: NOTHING }],
  ALGORITHM_FORBIDDEN: ['createKey', keyRequest('old', 'SIGN', 'RSA-1024')],
  TOO_LARGE: ['mac', { key: 'hmac', message: Buffer.alloc(2 * 1024 * 1024) }],
  KEY_EXISTS: ['createKey', keyRequest('aes', 'MAC', 'HMAC-SHA256')],
  KEY_CONFLICT: [
    'updateKey',
    { key: 'aes', labels: { labels: {} }, limits: undefined, grants: undefined, revision: 99n },
  ],
};

const RECORDED = ['principal', 'key', 'algorithm', 'operation', 'outcome', 'correlationId', 'detail'] as const;

/** What one door answered, and what the audit log then has. */
const observe = async (door: Door, tenant: string): Promise<{ answers: unknown[]; asked: Set<string> }> => {
  const transport = transportOf(tenant, door === 'pipeline' ? 'pipeline' : 'unary');
  const call = through(door, transport);
  const answers: unknown[] = [];
  const asked = new Set<string>();
  const ask = async (name: UnaryName, request: AnyRequest): Promise<AnyRequest> => {
    asked.add(name);
    try {
      const answer = await call(name, request, `step-${answers.length}`);
      answers.push([name, comparable(answer)]);
      return answer;
    } catch (error) {
      assert.ok(error instanceof MortiseError, String(error));
      const { code, message: text, fields, metadata, retryAfterMs, correlationId } = error;
      answers.push([name, comparable({ code, text, fields, metadata, retryAfterMs, correlationId })]);
      return { code };
    }
  };
  for (const script of [cryptography, lifecycle, reading]) await script(ask);
  for (const [code, [name, request]] of Object.entries(errors)) {
    assert.equal((await ask(name, request))['code'], code, `${door}: ${name}`);
  }
  // What the scripts leave out is asked with nothing in it: then it is refused, by all doors alike.
  for (const [name, method] of Object.entries(METHODS)) {
    if (asked.has(name) || method.responseStream || ['batch', 'checkHealth'].includes(name)) continue;
    const empty = 'requestDeserialize' in method ? method.requestDeserialize(Buffer.alloc(0)) : {};
    await ask(name as UnaryName, empty as unknown as AnyRequest);
  }
  return { answers, asked };
};

test('every operation answers, fails and is recorded alike, whatever door it came through', async () => {
  const seen = new Map<Door, { answers: unknown[]; records: unknown[] }>();
  for (const [at, door] of DOORS.entries()) {
    const tenant = TENANTS[at] as string;
    const { answers, asked } = await observe(door, tenant);
    const unary = Object.entries(METHODS).filter(([, { responseStream }]) => !responseStream);
    assert.equal(asked.size, unary.length - 2, 'batch and checkHealth are the only ones left out');
    const reader = clientOf(agent, tenant, { principal: 'reader' });
    const records = (await allRecords(reader)).filter(({ principal }) => principal !== 'reader');
    reader.close();
    const plain = records.map((record) =>
      comparable(Object.fromEntries(RECORDED.map((field) => [field, record[field]]))),
    );
    seen.set(door, { answers, records: plain });
  }
  const unary = seen.get('unary');
  assert.ok((unary?.answers.length ?? 0) > 45 && (unary?.records.length ?? 0) > 45);
  for (const door of ['pipeline', 'batch'] as const) {
    assert.deepEqual(seen.get(door)?.answers, unary?.answers, `answers of ${door}`);
    assert.deepEqual(seen.get(door)?.records, unary?.records, `records of ${door}`);
  }
});

test('scopes, bad tokens and strangers are refused alike', async () => {
  const weak = agent.issuer.issue({ tenant: 'alfa', scopes: ['crypto.sign'] });
  const expired = agent.issuer.issue({ tenant: 'alfa', lifetimeSeconds: -60 });
  for (const [token, code] of [
    [weak, 'PERMISSION_DENIED'],
    [expired, 'TOKEN_EXPIRED'],
    ['not.a.token', 'UNAUTHENTICATED'],
  ] as const) {
    const outcomes: unknown[] = [];
    for (const door of DOORS) {
      const call = through(door, transportOf('alfa', door === 'pipeline' ? 'pipeline' : 'unary', token));
      await assert.rejects(call('mac', { key: 'hmac', message: DATA }, 'refused'), (error: MortiseError) => {
        outcomes.push([error.code, error.message]);
        return true;
      });
    }
    assert.deepEqual(outcomes, Array(3).fill(outcomes[0]));
    assert.equal((outcomes[0] as string[])[0], code);
  }
});

test('kill -9 with 64 operations in flight: every answer that came has its record', async () => {
  const client = clientOf(agent, 'beta', { retry: false });
  const reader = clientOf(agent, 'beta', { principal: 'reader' }); // finds the agent again
  try {
    await client.keys.create({ keyId: 'killed', purpose: 'sign', algorithm: 'EC-P256' });
    const load = startLoad({
      client,
      callers: 64,
      operation: 'sign',
      act: (caller, correlationId) => caller.sign('killed', { digest: DIGEST }, { form: 'raw', correlationId }),
    });
    await load.more(500, 'ok');
    await agent.end('SIGKILL');
    await load.stop();
    assert.ok(load.count('AGENT_UNREACHABLE') > 0, 'nothing was in flight when the agent was killed');
    await agent.start();
    assertRecorded(load.answers, await allRecords(reader));
    assert.deepEqual((await reader.audit.verify()).findings, []);
  } finally {
    client.close();
    reader.close();
  }
});
