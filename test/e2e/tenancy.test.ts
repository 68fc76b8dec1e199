// Every RPC of a whole agent with another tenant's names, ciphertexts, signatures, page tokens, checkpoints and tokens:
// refused in the same words whether or not what is named exists, recorded for the caller, without a trace at the other.
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { Client, credentials, Metadata } from '@grpc/grpc-js';
import { CompactEncrypt, importJWK } from 'jose';
import { operationOf } from '../../agent/server/operation-of.ts';
import { asMortiseError, type MortiseError, operationError } from '../../clients/typescript/errors.ts';
import type { AuditRecord } from '../../proto/gen/mortise/agent/v1/audit.ts';
import type { PipelineAnswer, PipelineCall } from '../../proto/gen/mortise/agent/v1/pipeline.ts';
import { makeIssuer, type RunningAgent, startAgent } from '../support/agent.ts';
import { DATA, NAMED, OF_THE_CALLER, type Request, SERVICES, type ServiceRpc, type Theirs } from './tenancy-calls.ts';

const GENERATED = join(import.meta.dirname, '../../proto/gen/mortise/agent/v1');
const PATIENCE_MS = 30_000;
const PURPOSES = { files: 'ENCRYPT', more: 'ENCRYPT', signer: 'SIGN', tags: 'MAC' } as const;
const ALGORITHMS = { files: 'AES-256', more: 'AES-256', signer: 'EC-P256', tags: 'HMAC-SHA256' } as const;
const NOTHING = Buffer.alloc(0);
const LISTING = {
  pageSize: 1,
  pageToken: '',
  purpose: 'PURPOSE_UNSPECIFIED',
  states: [],
  labels: {},
  prefix: '',
};

const ofAcmeAlone = makeIssuer('https://acme.test');
let agent: RunningAgent;
let client: Client;
let acme: string;
let globex: string;

interface Outcome {
  /** "ok" or the error code. */
  readonly code: string;
  readonly error?: MortiseError;
  readonly responses: readonly unknown[];
}

/** For JSON.stringify: bytes as the text that they may hold. */
const asText = (_key: string, value: unknown): unknown => {
  if (typeof value === 'bigint') return String(value);
  const bytes = value as { readonly type?: string; readonly data?: readonly number[] };
  return bytes?.type === 'Buffer' && bytes.data ? Buffer.from(bytes.data).toString('latin1') : value;
};

/** Any RPC: to the wire a unary call is a stream of one message. A tail is left at its first message. */
const ask = (
  rpc: ServiceRpc,
  messages: readonly unknown[],
  by: { readonly token: string; readonly correlationId?: string },
): Promise<Outcome> =>
  new Promise((resolve) => {
    const metadata = new Metadata();
    metadata.set('authorization', `Bearer ${by.token}`);
    if (by.correlationId !== undefined) metadata.set('x-correlation-id', by.correlationId);
    const deadline = Date.now() + PATIENCE_MS;
    const { path, requestSerialize, responseDeserialize } = rpc;
    const stream = client.makeBidiStreamRequest(path, requestSerialize, responseDeserialize, metadata, { deadline });
    const responses: unknown[] = [];
    stream.on('data', (response: unknown) => {
      responses.push(response);
      if (rpc !== SERVICES.tailRecords) return;
      resolve({ code: 'ok', responses });
      stream.cancel();
    });
    stream.on('error', (thrown) => {
      const error = asMortiseError(thrown);
      resolve({ code: error.reason, error, responses });
    });
    stream.on('end', () => resolve({ code: 'ok', responses }));
    for (const message of messages) stream.write(message as never);
    stream.end();
  });

const must = async <Res>(rpc: ServiceRpc, messages: readonly unknown[], token: string): Promise<readonly Res[]> => {
  const { code, error, responses } = await ask(rpc, messages, { token });
  assert.equal(code, 'ok', `${rpc.path}: ${error?.message}`);
  return responses as readonly Res[];
};

/** What the attempt told its caller, without the names that the caller itself had given. */
const told = ({ code, error, responses }: Outcome): unknown => {
  const words = (of: MortiseError | undefined): unknown =>
    of && { code: of.reason, message: of.message, fields: of.fields, metadata: { ...of.metadata, correlation_id: '' } };
  const answers = responses.map((response) => {
    const rows = (response as { answers?: readonly PipelineAnswer[] }).answers;
    return rows === undefined
      ? response
      : rows.map(({ answer }) => (answer?.$case === 'error' ? words(operationError(answer.value, '-')) : answer));
  });
  const text = JSON.stringify({ code, error: words(error), answers }, (_key, value) =>
    typeof value === 'bigint' ? String(value) : value,
  );
  return text.replaceAll(/\b(?:globex|nobody)\b/g, 'other').replaceAll(/\b(?:the|not)-(?=files|signer|tags)/g, '');
};

const createKeys = async (token: string, prefix: string): Promise<void> => {
  for (const id of ['files', 'more', 'signer', 'tags'] as const) {
    const request: Request<'createKey'> = {
      keyId: `${prefix}${id}`,
      purpose: `PURPOSE_${PURPOSES[id]}`,
      algorithm: ALGORITHMS[id],
      joseAlgorithm: '',
      labels: {},
      limits: undefined,
      grants: [],
      activationTime: undefined,
    };
    await must(SERVICES.createKey, [request], token);
  }
};

/** Everything that a tenant can have, made by itself. */
const belongings = async (token: string, prefix: string) => {
  await createKeys(token, prefix);
  const [files, more, signer] = ['files', 'more', 'signer'].map((id) => `${prefix}${id}`) as [string, string, string];
  const plain = { plaintext: DATA, associatedData: NOTHING };
  const recipients = [files, more].map((value) => ({ recipient: { $case: 'key', value } }));
  const input = { $case: 'message', value: DATA };
  const form = 'SIGNATURE_FORM_JWS_COMPACT';
  const [{ jwe } = { jwe: '' }] = await must<{ jwe: string }>(SERVICES.encrypt, [{ key: files, ...plain }], token);
  const [general] = await must<{ jwe: string }>(SERVICES.encryptGeneral, [{ recipients, ...plain }], token);
  const [signed] = await must<{ jws: string }>(
    SERVICES.sign,
    [{ key: signer, input, form, type: '', context: NOTHING }],
    token,
  );
  const [dataKey] = await must<{ wrappedDataKey: string }>(
    SERVICES.generateDataKey,
    [{ key: files, length: 32, wrappedOnly: true, associatedData: NOTHING }],
    token,
  );
  const freshness = { nonce: randomBytes(16), timestamp: new Date() };
  const parts = [
    { $case: 'opening', value: { freshness, key: files, associatedData: NOTHING, localKey: 'LOCAL_KEY_UNSPECIFIED' } },
    { $case: 'data', value: DATA },
    { $case: 'end', value: { bytes: BigInt(DATA.length), localBytes: 0n } },
  ];
  const pieces = await must<{ part?: { $case: string; value: Buffer } }>(
    SERVICES.encryptStream,
    parts.map((part) => ({ part })),
    token,
  );
  const container = Buffer.concat(pieces.flatMap(({ part }) => (part?.$case === 'data' ? [part.value] : [])));
  const [opened] = await must<{ publicJwk: string }>(SERVICES.getImportKey, [{}], token);
  const [page] = await must<{ nextPageToken: string }>(SERVICES.listKeys, [LISTING], token);
  const [point] = await must<{ checkpoint: string }>(SERVICES.getCheckpoint, [{}], token);
  const newest = [{ from: 0n, pageSize: 1, newest: true }];
  const [last] = await must<{ records: AuditRecord[] }>(SERVICES.listRecords, newest, token);
  return {
    eventId: last?.records[0]?.eventId ?? '',
    jwe,
    general: general?.jwe ?? '',
    jws: signed?.jws ?? '',
    wrappedDataKey: dataKey?.wrappedDataKey ?? '',
    container,
    importJwk: opened?.publicJwk ?? '',
    pageToken: page?.nextPageToken ?? '',
    checkpoint: point?.checkpoint ?? '',
  };
};
type Belongings = Awaited<ReturnType<typeof belongings>>;

/** The JOSE text or container with another name in its kid: of one length, and never opened. */
const renamed = (text: string, rename: (value: string) => string): string => {
  if (text.startsWith('{')) return rename(text);
  const [header = '', ...rest] = text.split('.');
  return [Buffer.from(rename(Buffer.from(header, 'base64url').toString())).toString('base64url'), ...rest].join('.');
};

const wrapTo = async (jwk: string, kid?: string): Promise<string> => {
  const key = JSON.parse(jwk) as { readonly alg: string; readonly kid: string };
  return await new CompactEncrypt(randomBytes(32))
    .setProtectedHeader({ alg: key.alg, enc: 'A256GCM', kid: kid ?? key.kid })
    .encrypt(await importJWK(key, key.alg));
};

interface Expected {
  readonly code?: string;
  readonly bare?: string;
}

type Existence = 'there' | 'no such key' | 'no such tenant';

const theirsOf = async (has: Belongings, existence: Existence, bare = false): Promise<Theirs & { used(): boolean }> => {
  const rename = (text: string): string => {
    if (existence === 'there') return text;
    if (existence === 'no such tenant') return text.replaceAll('globex', 'nobody');
    return text.replaceAll('the-', 'not-');
  };
  const { jwe, general, jws, wrappedDataKey, container, checkpoint, pageToken, importJwk, eventId } = has;
  let used = false;
  const bytes = Buffer.from(pageToken, 'base64url');
  if (existence !== 'there') randomBytes(16).copy(bytes); // the hash of tenant and filters
  return {
    key: (id) => {
      used = true;
      const name = rename(`globex/the-${id}`);
      return bare ? name.slice(name.indexOf('/') + 1) : name;
    },
    used: () => used,
    full: (id) => rename(`globex/the-${id}`),
    jwe: renamed(jwe, rename),
    general: rename(general),
    jws: renamed(jws, rename),
    wrappedDataKey: renamed(wrappedDataKey, rename),
    container: Buffer.from(rename(container.toString('latin1')), 'latin1'),
    wrappedKey: await wrapTo(
      importJwk,
      existence === 'there' ? undefined : `import:${randomBytes(16).toString('hex')}`,
    ),
    pageToken: bytes.toString('base64url'),
    checkpoint: rename(checkpoint),
    eventId: existence === 'there' ? eventId : eventId.replace(/\d+$/, '999999999'),
  };
};

const logOf = async (token: string): Promise<readonly AuditRecord[]> => {
  const [answer] = await must<{ records: AuditRecord[]; size: bigint }>(
    SERVICES.listRecords,
    [{ from: 0n, pageSize: 1000, newest: false }],
    token,
  );
  assert.equal(BigInt(answer?.records.length ?? 0), answer?.size, 'the log is longer than one page');
  return answer?.records ?? [];
};

/** What an owner sees of its keys: records, states, revisions, uses. */
const keysOf = async (token: string): Promise<unknown> =>
  (await must<{ keys: unknown }>(SERVICES.listKeys, [{ ...LISTING, pageSize: 100 }], token))[0]?.keys;

let own: Belongings;
let theirs: Belongings;
const attempts: { readonly correlationId: string; readonly operation: string; readonly code: string }[] = [];
/** Asks as a caller of acme, under a correlation id by which the record is found. */
const attempt = async (rpc: ServiceRpc, messages: readonly unknown[]): Promise<Outcome> => {
  const correlationId = `attempt-${attempts.length}`;
  const carrier = rpc === SERVICES.batch || rpc === SERVICES.pipeline;
  const named = carrier
    ? messages.map((row) => {
        const { calls } = row as { readonly calls: readonly PipelineCall[] };
        return { ...(row as object), calls: calls.map((call) => ({ ...call, correlationId })) };
      })
    : messages;
  const outcome = await ask(rpc, named, { token: acme, correlationId });
  if (carrier) {
    const answers = outcome.responses.flatMap((row) => (row as { answers: readonly PipelineAnswer[] }).answers);
    const answer = answers[0]?.answer;
    assert.ok(answer?.$case === 'error', rpc.path);
    const { reason } = operationError(answer.value, correlationId);
    attempts.push({ correlationId, operation: 'get-key', code: reason });
  } else {
    attempts.push({ correlationId, operation: operationOf(rpc.path) ?? '', code: outcome.code });
  }
  return outcome;
};

before(async () => {
  const issuer = {
    issuer: 'https://acme.test',
    audiences: ['mortise'],
    jwks: { keys: [ofAcmeAlone.publicJwk] },
    tenants: ['acme'],
    tenantClaim: 'tenant',
    scopesClaim: 'scope',
    maxLifetimeSeconds: 3600,
    singleUse: false,
  };
  agent = await startAgent({
    platform: { issuers: [issuer as never], rateLimits: { operationsPerSecond: 100_000, burst: 100_000 } },
  });
  client = new Client(`unix:${agent.socket}`, credentials.createInsecure(), { 'grpc.enable_retries': 0 });
  acme = agent.issuer.issue({ tenant: 'acme' });
  globex = agent.issuer.issue({ tenant: 'globex', principal: 'owner' });
  own = await belongings(acme, '');
  theirs = await belongings(globex, 'the-');
});
after(async () => {
  client?.close();
  await agent?.stop();
});

test('the tables have a row for every RPC that is generated', async () => {
  const generated: string[] = [];
  for (const file of await readdir(GENERATED)) {
    const names = Object.entries((await import(join(GENERATED, file))) as Record<string, object>);
    const services = names.filter(([name]) => name.endsWith('ServiceService'));
    for (const [, service] of services) generated.push(...Object.keys(service));
  }
  assert.ok(generated.length > 40, `${generated.length} RPCs`);
  assert.deepEqual(Object.keys({ ...NAMED, ...OF_THE_CALLER }).sort(), generated.sort());
});

test('what names a key of another tenant is refused in the same words whether or not it exists', async () => {
  const [keys, records] = [await keysOf(globex), (await logOf(globex)).length];
  const everywhere = await Promise.all(
    (['there', 'no such key', 'no such tenant'] as const).map((existence) => theirsOf(theirs, existence)),
  );
  for (const [name, row] of Object.entries(NAMED)) {
    const rpc: ServiceRpc = SERVICES[name as keyof typeof NAMED];
    const tries = everywhere.map((view) => row(view, own));
    for (const [at, first] of tries[0]?.entries() ?? []) {
      const { code = 'PERMISSION_DENIED' } = first as Expected;
      const outcomes: Outcome[] = [];
      for (const each of tries) outcomes.push(await attempt(rpc, each[at]?.messages ?? []));
      const [there, ...not] = outcomes.map(told);
      assert.equal(outcomes[0]?.code, code, `${name} ${at}: ${there}`);
      for (const other of not) assert.equal(other, there, `${name} ${at}`);
      if (code === 'ok') assert.match(String(there), /PERMISSION_DENIED/);
    }
  }
  assert.deepEqual(await keysOf(globex), keys);
  assert.equal((await logOf(globex)).length - records, 2, 'nothing but what the owner itself has read since');
});

test('the bare id of a key of another tenant is an unknown key, whether or not the other tenant has it', async () => {
  const keys = await keysOf(globex);
  const views = await Promise.all([theirsOf(theirs, 'there', true), theirsOf(theirs, 'no such key', true)]);
  let tried = 0;
  for (const [name, row] of Object.entries(NAMED)) {
    const rpc: ServiceRpc = SERVICES[name as keyof typeof NAMED];
    const [tries = [], others = []] = views.map((view) => row(view, own));
    if (!views.some((view) => view.used())) continue;
    for (const [at, each] of tries.entries()) {
      const { bare = 'KEY_UNKNOWN' } = each as Expected;
      const text = JSON.stringify(each.messages, asText);
      if (text.includes('globex')) continue; // it names the tenant elsewhere
      if (!text.includes('"the-')) continue;
      tried += 1;
      const there = await attempt(rpc, each.messages);
      const not = await attempt(rpc, others[at]?.messages ?? []);
      assert.equal(there.code, bare, `${name} ${at}: ${told(there)}`);
      assert.equal(told(not), told(there), `${name} ${at}`);
    }
  }
  assert.ok(tried > 25, `${tried} attempts`);
  assert.deepEqual(await keysOf(globex), keys);
});

test('what has no room for a name answers of the tenant of the caller alone', async () => {
  const keys = await keysOf(globex);
  const views = await Promise.all([theirsOf(theirs, 'there'), theirsOf(theirs, 'no such tenant')]);
  const [rsa] = await must<{ publicJwk: string }>(SERVICES.getImportKey, [{}], acme);
  const [jwk] = await must<{ publicKey: string }>(
    SERVICES.getPublicKey,
    [{ key: 'signer', version: 0, format: 'PUBLIC_KEY_FORMAT_JWK' }],
    acme,
  );
  const mine = { ...own, publicJwk: jwk?.publicKey ?? '', rsaJwk: rsa?.publicJwk ?? '' };
  for (const [name, row] of Object.entries(OF_THE_CALLER)) {
    const rpc: ServiceRpc = SERVICES[name as keyof typeof OF_THE_CALLER];
    for (const view of views) {
      const outcome = await attempt(rpc, row(view, mine).messages);
      assert.equal(outcome.code, 'ok', `${name}: ${told(outcome)}`);
      assert.ok(outcome.responses.length > 0, name);
      const text = JSON.stringify(outcome.responses, asText);
      assert.ok(!/globex|owner/.test(text), name);
    }
  }
  const findings = await Promise.all(
    views.map(async ({ checkpoint }) => {
      const [answer] = await must<{ findings: unknown }>(SERVICES.verifyLog, [{ trustedCheckpoint: checkpoint }], acme);
      return JSON.stringify(answer?.findings, asText);
    }),
  );
  // The host's signature tells one of its own from one that was altered, as its public key tells everybody.
  assert.match(findings[0] ?? '', /LOG_FORKED.*is of another log/);
  assert.match(findings[1] ?? '', /CHECKPOINT_INVALID/);
  assert.doesNotMatch(findings.join(), /globex|nobody/);
  assert.deepEqual(await keysOf(globex), keys);
});

test('every attempt stands once in the log of its caller, under its operation and outcome, and in no other log', async () => {
  const records = await logOf(acme);
  assert.ok(attempts.length > 150, `${attempts.length} attempts`);
  for (const { correlationId, operation, code } of attempts) {
    const found = records.filter((row) => row.correlationId === correlationId && row.outcome !== 'intent');
    assert.deepEqual(
      found.map((row) => [row.operation, row.outcome]),
      [[operation, code]],
      correlationId,
    );
  }
  const refused = records.filter(({ outcome }) => outcome === 'PERMISSION_DENIED');
  assert.ok(refused.every(({ key }) => key === '-'));
  assert.ok((await logOf(globex)).every(({ tenant, principal }) => tenant === 'globex' && principal !== 'app'));
});

test('what its owner had is whole, and the key for its import was not spent', async () => {
  const [{ plaintext } = { plaintext: NOTHING }] = await must<{ plaintext: Buffer }>(
    SERVICES.decrypt,
    [{ jwe: theirs.jwe, key: '', associatedData: NOTHING }],
    globex,
  );
  assert.deepEqual(plaintext, DATA);
  const wrappedKey = await wrapTo(theirs.importJwk);
  const request = { keyId: 'the-brought', purpose: 'PURPOSE_ENCRYPT', algorithm: 'AES-256', joseAlgorithm: '' };
  const rest = { wrappedKey, labels: {}, limits: undefined, grants: [], activationTime: undefined };
  await must(SERVICES.importKey, [{ ...request, ...rest }], globex);
});

test('no RPC takes a token whose issuer may not speak for its tenant, and the words tell no tenant from none', async () => {
  const records = (await logOf(globex)).length;
  const tokens = [
    ofAcmeAlone.issue({ tenant: 'globex', claims: { iss: 'https://acme.test' } }),
    ofAcmeAlone.issue({ tenant: 'nobody', claims: { iss: 'https://acme.test' } }),
  ];
  const operations = new Set<string>();
  for (const rpc of Object.values(SERVICES) as ServiceRpc[]) {
    const said: unknown[] = [];
    for (const [at, token] of tokens.entries()) {
      const outcome = await ask(rpc, [], { token, correlationId: `stranger-${at}` });
      assert.equal(outcome.code, 'UNAUTHENTICATED', rpc.path);
      assert.deepEqual(outcome.responses, []);
      said.push(told(outcome));
    }
    assert.equal(said[0], said[1], rpc.path);
    operations.add(operationOf(rpc.path) ?? '');
  }
  assert.equal((await logOf(globex)).length - records, 1);
  const platform = await logOf(agent.issuer.issue({ tenant: '_platform', scopes: ['audit.read'] }));
  const refused = platform.filter(({ outcome, principal }) => outcome === 'UNAUTHENTICATED' && principal === '-');
  assert.ok(refused.length >= 50, 'the first of them, until the host counts instead');
  assert.ok(refused.every(({ operation }) => operations.has(operation)));
});

test('a pipeline whose token changes to another tenant is a caller of that tenant from then on, and of none before', async () => {
  const calls = (sequence: number, key: string) => [
    { sequence, timeoutMs: 0, correlationId: '', request: { $case: 'getKey', value: { key } } },
  ];
  const { responses } = await ask(
    SERVICES.pipeline,
    [
      { calls: calls(1, 'files'), token: '', cancel: [] },
      { calls: calls(2, 'acme/files'), token: globex, cancel: [] },
      { calls: calls(3, 'the-files'), token: '', cancel: [] },
      { calls: calls(4, 'the-files'), token: acme, cancel: [] },
    ],
    { token: acme },
  );
  const answers = new Map(
    responses
      .flatMap((row) => (row as { answers: readonly PipelineAnswer[] }).answers)
      .map(({ sequence, answer }) => [
        sequence,
        answer?.$case === 'error' ? operationError(answer.value, '-').reason : answer?.$case,
      ]),
  );
  assert.deepEqual(
    [1, 2, 3, 4].map((sequence) => answers.get(sequence)),
    ['getKey', 'PERMISSION_DENIED', 'getKey', 'KEY_UNKNOWN'],
  );
});
