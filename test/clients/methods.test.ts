// Every method of the client: the request that leaves, and the plain answer that comes back.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { connect, type Key, type MortiseClient } from '../../clients/typescript/index.ts';
import { METHODS } from '../../clients/typescript/methods.ts';
import { ENVELOPE, StubAgent } from './stub-agent.ts';

const NOTHING = Buffer.alloc(0);
const TIME = new Date('2026-11-24T08:00:00.000Z');
const KEY_MESSAGE = {
  keyId: 'orders',
  tenant: 'acme',
  purpose: 'PURPOSE_ENCRYPT',
  state: 'KEY_STATE_ACTIVE',
  labels: { team: 'a' },
  limits: { softUses: 10n, hardUses: 20n, softExpiry: undefined, hardExpiry: TIME },
  grants: [{ principal: 'p', operations: ['encrypt'] }],
  versions: [
    {
      version: 1,
      algorithm: 'AES-256',
      joseAlgorithm: 'A256GCMKW',
      state: 'VERSION_STATE_PRIMARY',
      custody: 'CUSTODY_HSM',
      origin: 'ORIGIN_GENERATED',
      createTime: TIME,
      uses: 7n,
      lastApplyTime: TIME,
      lastProcessTime: undefined,
      sunsetWarnTime: TIME,
      sunsetTime: TIME,
    },
  ],
  createTime: TIME,
  updateTime: TIME,
  activationTime: undefined,
  destroyTime: undefined,
  revision: 3n,
  uses: 7n,
};
const KEY: Key = {
  keyId: 'orders',
  tenant: 'acme',
  purpose: 'encrypt',
  state: 'ACTIVE',
  labels: { team: 'a' },
  limits: { softUses: 10, hardUses: 20, hardExpiry: TIME },
  grants: [{ principal: 'p', operations: ['encrypt'] }],
  versions: [
    {
      version: 1,
      algorithm: 'AES-256',
      joseAlgorithm: 'A256GCMKW',
      state: 'PRIMARY',
      custody: 'hsm',
      origin: 'generated',
      createTime: TIME,
      uses: 7,
      lastApplyTime: TIME,
      lastProcessTime: undefined,
      sunsetWarnTime: TIME,
      sunsetTime: TIME,
    },
  ],
  createTime: TIME,
  updateTime: TIME,
  activationTime: undefined,
  destroyTime: undefined,
  revision: 3,
  uses: 7,
};
const RECORD = {
  tenant: 'acme',
  principal: 'p',
  key: 'orders/1',
  algorithm: 'A256GCMKW',
  operation: 'encrypt',
  outcome: 'ok',
  time: '2026-11-24T08:00:00.000001Z',
  correlationId: 'c-1',
  eventId: 'h/1/5',
  detail: '{}',
  canonical: Buffer.from('c'),
  mac: Buffer.from('m'),
};
const STATUS = {
  version: '0.1.0',
  host: 'h',
  startTime: TIME,
  parts: [{ part: 'token', healthy: true, detail: 'fine' }],
  token: { label: 't', model: 'm', serial: 's', library: 'l', sessions: 2, restarts: 1, abilities: ['aes-gcm'] },
  tokens: [
    {
      name: 'default',
      healthy: true,
      detail: 'fine',
      token: { label: 't', model: 'm', serial: 's', library: 'l', sessions: 2, restarts: 1, abilities: ['aes-gcm'] },
      certificate: {
        identifier: 'CMVP 1',
        standard: 'FIPS 140-3',
        level: 3,
        expireTime: TIME,
        status: 'historical',
        warning: 'is historical',
      },
    },
  ],
  fipsBoundary: '',
  opensslFips: false,
};
const POLICY = { scope: 'platform', digest: 'ab', expiresAt: TIME, verifiedAt: TIME, stale: false };
const FINDING = { code: 'RECORD_EDITED', message: 'edited' };

interface Row {
  readonly method: string;
  call(client: MortiseClient): Promise<unknown>;
  readonly request: unknown;
  readonly answer: unknown;
  readonly result: unknown;
}

const USED = { keyId: 'k', version: 1 };
const SOURCE = { sourceKeyUsed: { keyId: 'old', version: 3 }, sourceAlgorithmUsed: 'A256GCMKW' };
const JWK = { kty: 'OKP', crv: 'Ed25519', x: 'AA' };
const done = { key: KEY_MESSAGE, envelope: ENVELOPE };
const verified = { valid: true, payload: Buffer.from('p'), envelope: ENVELOPE };

const rows: readonly Row[] = [
  {
    method: 'encrypt',
    call: (client) => client.encrypt('orders', new Uint8Array([1, 2]), { associatedData: Buffer.from('aad') }),
    request: { key: 'orders', plaintext: Buffer.from([1, 2]), associatedData: Buffer.from('aad') },
    answer: { jwe: 'a.b.c', envelope: ENVELOPE },
    result: { jwe: 'a.b.c', envelope: ENVELOPE },
  },
  {
    method: 'decrypt',
    call: (client) => client.decrypt('a.b.c', { key: 'orders' }),
    request: { jwe: 'a.b.c', key: 'orders', associatedData: NOTHING },
    answer: { plaintext: Buffer.from('x'), envelope: ENVELOPE },
    result: { plaintext: Buffer.from('x'), envelope: ENVELOPE },
  },
  {
    method: 'sign',
    call: (client) => client.sign('k', { message: Buffer.from('m') }, { form: 'jws-detached', type: 'JOSE' }),
    request: {
      key: 'k',
      input: { $case: 'message', value: Buffer.from('m') },
      form: 'SIGNATURE_FORM_JWS_DETACHED',
      type: 'JOSE',
      context: NOTHING,
    },
    answer: { jws: 'a..c', signature: NOTHING, envelope: ENVELOPE },
    result: { jws: 'a..c', signature: NOTHING, envelope: ENVELOPE },
  },
  {
    method: 'sign',
    call: (client) => client.sign('k', { digest: Buffer.from('d') }, { form: 'raw', context: Buffer.from('x') }),
    request: {
      key: 'k',
      input: { $case: 'digest', value: Buffer.from('d') },
      form: 'SIGNATURE_FORM_RAW',
      type: '',
      context: Buffer.from('x'),
    },
    answer: { jws: '', signature: Buffer.from('s'), envelope: ENVELOPE },
    result: { jws: '', signature: Buffer.from('s'), envelope: ENVELOPE },
  },
  {
    method: 'verify',
    call: (client) => client.verify({ jws: 'a..c', message: Buffer.from('m') }),
    request: {
      key: '',
      version: 0,
      signature: { $case: 'jws', value: 'a..c' },
      input: { $case: 'message', value: Buffer.from('m') },
      context: NOTHING,
    },
    answer: verified,
    result: verified,
  },
  {
    method: 'verify',
    call: (client) =>
      client.verify(
        { raw: Buffer.from('s'), digest: Buffer.from('d'), context: Buffer.from('x') },
        { key: 'k', version: 2 },
      ),
    request: {
      key: 'k',
      version: 2,
      signature: { $case: 'raw', value: Buffer.from('s') },
      input: { $case: 'digest', value: Buffer.from('d') },
      context: Buffer.from('x'),
    },
    answer: { ...verified, valid: false, payload: NOTHING },
    result: { ...verified, valid: false, payload: NOTHING },
  },
  {
    method: 'verify',
    call: (client) => client.verify({ jws: 'a.b.c' }),
    request: { key: '', version: 0, signature: { $case: 'jws', value: 'a.b.c' }, input: undefined, context: NOTHING },
    answer: verified,
    result: verified,
  },
  {
    method: 'mac',
    call: (client) => client.mac('k', Buffer.from('m')),
    request: { key: 'k', message: Buffer.from('m') },
    answer: { mac: Buffer.from('t'), envelope: ENVELOPE },
    result: { mac: Buffer.from('t'), envelope: ENVELOPE },
  },
  {
    method: 'verifyMac',
    call: (client) => client.verifyMac('k', Buffer.from('m'), Buffer.from('t'), { version: 4 }),
    request: { key: 'k', message: Buffer.from('m'), mac: Buffer.from('t'), version: 4 },
    answer: { valid: false, envelope: ENVELOPE },
    result: { valid: false, envelope: ENVELOPE },
  },
  {
    method: 'generateRandom',
    call: (client) => client.generateRandom(2),
    request: { length: 2 },
    answer: { random: Buffer.from([1, 2]) },
    result: Buffer.from([1, 2]),
  },
  {
    method: 'encryptTo',
    call: (client) => client.encryptTo(JWK, Buffer.from('x')),
    request: { publicJwk: JSON.stringify(JWK), plaintext: Buffer.from('x'), associatedData: NOTHING },
    answer: { jwe: 'j', envelope: { ...ENVELOPE, keyUsed: undefined } },
    result: { jwe: 'j', envelope: { ...ENVELOPE, keyUsed: undefined } },
  },
  {
    method: 'verifyWith',
    call: (client) => client.verifyWith(JWK, { raw: Buffer.from('s'), message: Buffer.from('m') }),
    request: {
      publicJwk: JSON.stringify(JWK),
      signature: { $case: 'raw', value: Buffer.from('s') },
      input: { $case: 'message', value: Buffer.from('m') },
      context: NOTHING,
    },
    answer: verified,
    result: verified,
  },
  {
    method: 'createKey',
    call: (client) =>
      client.keys.create({
        keyId: 'orders',
        purpose: 'encrypt',
        algorithm: 'AES-256',
        labels: { team: 'a' },
        limits: { softUses: 10, hardExpiry: TIME },
        grants: [{ principal: 'p', operations: ['encrypt'] }],
      }),
    request: {
      keyId: 'orders',
      purpose: 'PURPOSE_ENCRYPT',
      algorithm: 'AES-256',
      joseAlgorithm: '',
      labels: { team: 'a' },
      limits: { softUses: 10n, hardUses: 0n, softExpiry: undefined, hardExpiry: TIME },
      grants: [{ principal: 'p', operations: ['encrypt'] }],
      activationTime: undefined,
    },
    answer: done,
    result: { key: KEY, envelope: ENVELOPE },
  },
  {
    method: 'getKey',
    call: (client) => client.keys.get('orders'),
    request: { key: 'orders' },
    answer: { key: KEY_MESSAGE },
    result: KEY,
  },
  {
    method: 'updateKey',
    call: (client) => client.keys.update('orders', { labels: {}, revision: 3 }),
    request: { key: 'orders', labels: { labels: {} }, limits: undefined, grants: undefined, revision: 3n },
    answer: { key: KEY_MESSAGE },
    result: KEY,
  },
  {
    method: 'updateKey',
    call: (client) => client.keys.update('orders', { grants: [], limits: { hardUses: 5 } }),
    request: {
      key: 'orders',
      labels: undefined,
      limits: { softUses: 0n, hardUses: 5n, softExpiry: undefined, hardExpiry: undefined },
      grants: { grants: [] },
      revision: 0n,
    },
    answer: { key: KEY_MESSAGE },
    result: KEY,
  },
  {
    method: 'rotateKey',
    call: (client) => client.keys.rotate('orders', { algorithm: 'AES-128', expectedVersion: 1, acceptLoss: true }),
    request: { key: 'orders', algorithm: 'AES-128', joseAlgorithm: '', expectedVersion: 1, acceptLoss: true },
    answer: done,
    result: { key: KEY, envelope: ENVELOPE },
  },
  ...(['suspend', 'resume', 'destroy', 'restore'] as const).map((name) => ({
    method: `${name}Key`,
    call: (client: MortiseClient) => client.keys[name]('orders', { reason: 'why' }),
    request: { key: 'orders', reason: 'why' },
    answer: { key: KEY_MESSAGE },
    result: KEY,
  })),
  {
    method: 'revokeKey',
    call: (client) => client.keys.revoke('orders', { version: 1 }),
    request: { key: 'orders', version: 1, reason: '' },
    answer: { key: KEY_MESSAGE },
    result: KEY,
  },
  {
    method: 'getPublicKey',
    call: (client) => client.keys.publicKey('k', { format: 'pem' }),
    request: { key: 'k', version: 0, format: 'PUBLIC_KEY_FORMAT_PEM' },
    answer: { publicKey: 'PEM', envelope: ENVELOPE },
    result: { publicKey: 'PEM', envelope: ENVELOPE },
  },
  {
    method: 'rotateTenantKek',
    call: (client) => client.keys.rotateTenantKek(),
    request: {},
    answer: { version: 2, rewrapped: 9n },
    result: { version: 2, rewrapped: 9 },
  },
  {
    method: 'getImportKey',
    call: (client) => client.keys.importKey(),
    request: {},
    answer: { publicJwk: JSON.stringify(JWK), expireTime: TIME, envelope: ENVELOPE },
    result: { publicJwk: JWK, expireTime: TIME },
  },
  {
    method: 'importKey',
    call: (client) =>
      client.keys.import({
        keyId: 'k',
        purpose: 'encrypt',
        algorithm: 'AES-256',
        wrappedKey: 'a.b.c.d.e',
        labels: { a: 'b' },
      }),
    request: {
      keyId: 'k',
      purpose: 'PURPOSE_ENCRYPT',
      algorithm: 'AES-256',
      joseAlgorithm: '',
      wrappedKey: 'a.b.c.d.e',
      labels: { a: 'b' },
      limits: undefined,
      grants: [],
      activationTime: undefined,
      asVersion: undefined,
    },
    answer: done,
    result: { key: KEY, envelope: ENVELOPE },
  },
  {
    method: 'encryptGeneral',
    call: (client) => client.encryptGeneral([{ key: 'k' }, { publicJwk: JWK }], Buffer.from('p')),
    request: {
      recipients: [
        { recipient: { $case: 'key', value: 'k' } },
        { recipient: { $case: 'publicJwk', value: JSON.stringify(JWK) } },
      ],
      plaintext: Buffer.from('p'),
      associatedData: NOTHING,
    },
    answer: { jwe: '{}', keysUsed: [USED], envelope: ENVELOPE },
    result: { jwe: '{}', keysUsed: [USED], envelope: ENVELOPE },
  },
  {
    method: 'reEncrypt',
    call: (client) => client.reEncrypt('a.b.c', { targetKey: 't', newAssociatedData: NOTHING }),
    request: { jwe: 'a.b.c', sourceKey: '', targetKey: 't', associatedData: NOTHING, newAssociatedData: NOTHING },
    answer: { jwe: 'd.e.f', ...SOURCE, envelope: ENVELOPE },
    result: { jwe: 'd.e.f', ...SOURCE, envelope: ENVELOPE },
  },
  {
    method: 'reEncrypt',
    call: (client) => client.reEncrypt('a.b.c', { sourceKey: 's', associatedData: Buffer.from('a') }),
    request: {
      jwe: 'a.b.c',
      sourceKey: 's',
      targetKey: '',
      associatedData: Buffer.from('a'),
      newAssociatedData: undefined,
    },
    answer: { jwe: 'd.e.f', ...SOURCE, envelope: ENVELOPE },
    result: { jwe: 'd.e.f', ...SOURCE, envelope: ENVELOPE },
  },
  {
    method: 'rewrap',
    call: (client) => client.rewrap('{}', { add: [{ key: 'k' }], remove: ['acme/old/1'] }),
    request: {
      jwe: '{}',
      sourceKey: '',
      add: [{ recipient: { $case: 'key', value: 'k' } }],
      remove: ['acme/old/1'],
    },
    answer: { jwe: '{}', keysUsed: [USED], insideToken: true, ...SOURCE, envelope: ENVELOPE },
    result: { jwe: '{}', keysUsed: [USED], insideToken: true, ...SOURCE, envelope: ENVELOPE },
  },
  {
    method: 'reSign',
    call: (client) => client.reSign('a..c', { message: Buffer.from('m'), targetKey: 't' }),
    request: { jws: 'a..c', message: Buffer.from('m'), sourceKey: '', targetKey: 't' },
    answer: { jws: 'd..f', ...SOURCE, envelope: ENVELOPE },
    result: { jws: 'd..f', ...SOURCE, envelope: ENVELOPE },
  },
  {
    method: 'generateDataKey',
    call: (client) => client.generateDataKey('k', { length: 64, wrappedOnly: true }),
    request: { key: 'k', length: 64, wrappedOnly: true, associatedData: NOTHING },
    answer: { dataKey: NOTHING, wrappedDataKey: 'a.b.c', envelope: ENVELOPE },
    result: { dataKey: NOTHING, wrappedDataKey: 'a.b.c', envelope: ENVELOPE },
  },
  {
    method: 'decryptDataKey',
    call: (client) => client.decryptDataKey('a.b.c', { key: 'k' }),
    request: { wrappedDataKey: 'a.b.c', key: 'k', associatedData: NOTHING },
    answer: { dataKey: Buffer.from('d'), envelope: ENVELOPE },
    result: { dataKey: Buffer.from('d'), envelope: ENVELOPE },
  },
  {
    method: 'whoAmI',
    call: (client) => client.whoAmI(),
    request: {},
    answer: { tenant: 't', principal: 'p', scopes: ['a'], authenticatedBy: 'peer', uid: 1, gid: 2, pid: 3 },
    result: { tenant: 't', principal: 'p', scopes: ['a'], authenticatedBy: 'peer', uid: 1, gid: 2, pid: 3 },
  },
  {
    method: 'getStatus',
    call: (client) => client.status(),
    request: {},
    answer: { ...STATUS, policies: [{ ...POLICY, version: 12n }] },
    result: { ...STATUS, policies: [{ ...POLICY, version: 12 }] },
  },
  {
    method: 'explain',
    call: (client) => client.explain({ operation: 'sign', key: 'k' }),
    request: { operation: 'sign', key: 'k', algorithm: '' },
    answer: { allowed: false, rule: 'r', explanation: 'e', code: 'POLICY_DENIED' },
    result: { allowed: false, rule: 'r', explanation: 'e', code: 'POLICY_DENIED' },
  },
  {
    method: 'listRecords',
    call: (client) => client.audit.records({ newest: true, pageSize: 5 }),
    request: { from: 0n, pageSize: 5, newest: true },
    answer: { records: [{ ...RECORD, index: 6n }], size: 7n },
    result: { records: [{ ...RECORD, index: 6 }], size: 7 },
  },
  {
    method: 'getCheckpoint',
    call: (client) => client.audit.checkpoint(),
    request: {},
    answer: { checkpoint: 'note', publicJwk: '{}' },
    result: { checkpoint: 'note', publicJwk: '{}' },
  },
  {
    method: 'getReceipt',
    call: (client) => client.audit.receipt('h/1/2', { countersigned: true }),
    request: { eventId: 'h/1/2', waitMs: 5000, countersigned: true },
    answer: { proof: 'p', record: Buffer.of(1), mac: Buffer.of(2), publicJwk: '{}', countersigned: true },
    result: { proof: 'p', record: Buffer.of(1), mac: Buffer.of(2), publicJwk: '{}', countersigned: true },
  },
  {
    method: 'verifyLog',
    call: (client) => client.audit.verify({ trustedCheckpoint: 'note' }),
    request: { trustedCheckpoint: 'note' },
    answer: { intact: false, size: 9n, root: 'ab', findings: [{ ...FINDING, index: 4n }], checkpointTime: TIME },
    result: { intact: false, size: 9, root: 'ab', findings: [{ ...FINDING, index: 4 }], checkpointTime: TIME },
  },
];

for (const [at, row] of rows.entries()) {
  test(`${row.method} (${at}): request and answer`, async () => {
    await using agent = await new StubAgent().start();
    agent.answers[row.method] = () => row.answer;
    using client = connect({ socketPath: agent.socketPath });
    const result = await row.call(client);
    assert.deepEqual(agent.calls[0]?.request, row.request);
    assert.deepEqual(result, row.result);
  });
}

test('every rpc is in the rows above or in a test of its own', () => {
  const elsewhere = ['listKeys', 'tailRecords', 'checkHealth', 'batch'];
  assert.deepEqual([...new Set(rows.map((row) => row.method)), ...elsewhere].sort(), Object.keys(METHODS).sort());
});

test('list walks all pages with the same question', async () => {
  await using agent = await new StubAgent().start();
  const pages = [
    { keys: [KEY_MESSAGE, { ...KEY_MESSAGE, keyId: 'b' }], nextPageToken: 'p2' },
    { keys: [{ ...KEY_MESSAGE, keyId: 'c' }], nextPageToken: '' },
  ];
  agent.answers['listKeys'] = () => pages.shift();
  using client = connect({ socketPath: agent.socketPath });
  const query = { purpose: 'encrypt', states: ['ACTIVE', 'EXPIRED'], labels: { a: 'b' }, prefix: 'o' } as const;
  const ids: string[] = [];
  for await (const key of client.keys.list(query)) ids.push(key.keyId);
  assert.deepEqual(ids, ['orders', 'b', 'c']);
  const question = {
    pageSize: 0,
    purpose: 'PURPOSE_ENCRYPT',
    states: ['KEY_STATE_ACTIVE', 'KEY_STATE_EXPIRED'],
    labels: { a: 'b' },
    prefix: 'o',
  };
  assert.deepEqual(
    agent.calls.map((seen) => seen.request),
    [
      { ...question, pageToken: '' },
      { ...question, pageToken: 'p2' },
    ],
  );
});

test('an answer with a state that this client does not know is an error, not a guess', async () => {
  await using agent = await new StubAgent().start();
  agent.answers['getKey'] = () => ({ key: { ...KEY_MESSAGE, state: 'KEY_STATE_UNSPECIFIED' } });
  using client = connect({ socketPath: agent.socketPath });
  await assert.rejects(client.keys.get('orders'), { code: 'INTERNAL' });
});
