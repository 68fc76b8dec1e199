// Runner of the TypeScript client. usage: typescript.ts pipeline | unary
import { createInterface } from 'node:readline';
import {
  connect,
  type MortiseClient,
  MortiseError,
  type SignatureToVerify,
  TokenFile,
  type TransportKind,
} from '../../typescript/index.ts';

// biome-ignore lint/suspicious/noExplicitAny: arguments and answers are of every type there is
type Any = any;

const VERBATIM = new Set(['labels', 'metadata', 'public_jwk', 'public_key']);
const camel = (name: string): string => name.replace(/_(.)/g, (_, letter: string) => letter.toUpperCase());
const snake = (name: string): string => name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);

const decoded = (value: Any, name = ''): Any => {
  if (Array.isArray(value)) return value.map((row) => decoded(row));
  if (typeof value !== 'object' || value === null) return name === 'activation_time' ? new Date(value) : value;
  if (typeof value.base64 === 'string') return Buffer.from(value.base64, 'base64');
  if (VERBATIM.has(name)) return value;
  return Object.fromEntries(Object.entries(value).map(([key, inner]) => [camel(key), decoded(inner, key)]));
};

const encoded = (value: Any, name = ''): Any => {
  if (value instanceof Uint8Array) return { base64: Buffer.from(value).toString('base64') };
  if (value instanceof Date) return value.toISOString();
  if (Array.isArray(value)) return value.map((row) => encoded(row));
  if (typeof value !== 'object' || value === null || VERBATIM.has(name)) return value;
  return Object.fromEntries(
    Object.entries(value).map(([key, inner]) => [snake(key), encoded(inner, snake(key))] as const),
  );
};

const connected = (options: Any, transport: TransportKind): MortiseClient =>
  connect({
    transport,
    ...(options.socket !== undefined && { socketPath: options.socket }),
    ...(options.token !== undefined && { token: options.token }),
    ...(options.token_file !== undefined && { token: new TokenFile(options.token_file) }),
    ...(options.deadline_ms !== undefined && { deadlineMs: options.deadline_ms }),
    ...(options.max_attempts !== undefined && { retry: { maxAttempts: options.max_attempts } }),
  });

// Sizes that fit no limit of the protocol, so that the client has to cut.
function* pieces(data: Buffer): Generator<Buffer> {
  for (let start = 0; start < data.length; start += 100_000) yield data.subarray(start, start + 100_000);
}

const all = async (stream: Any): Promise<Any> => {
  const found: Buffer[] = [];
  for await (const piece of stream) found.push(piece);
  const used = stream.source && { keyId: stream.source.keyId, version: stream.source.version };
  return { data: Buffer.concat(found), envelope: stream.envelope, sourceKeyUsed: used };
};

const first = async (items: AsyncIterable<unknown>, count = Number.POSITIVE_INFINITY): Promise<unknown[]> => {
  const found: unknown[] = [];
  for await (const item of items) {
    found.push(item);
    if (found.length >= count) break;
  }
  return found;
};

const signed = ({ jws, raw, message, digest, context }: Any): SignatureToVerify => {
  if (raw === undefined) return { jws, ...(message !== undefined && { message }) };
  const input = digest === undefined ? { message } : { digest };
  return { raw, ...(context !== undefined && { context }), ...input };
};

type Call = (client: MortiseClient, given: Any) => Promise<unknown>;
const withoutKey = (name: string, given: Any): Any => {
  const { [name]: _, ...rest } = given;
  return rest;
};

const CALLS: Readonly<Record<string, Call>> = {
  encrypt: (client, given) => client.encrypt(given.key, given.plaintext, given),
  decrypt: (client, given) => client.decrypt(given.jwe, given),
  sign: (client, given) => client.sign(given.key, given, given),
  verify: (client, given) => client.verify(signed(given), given),
  mac: (client, given) => client.mac(given.key, given.message, given),
  verify_mac: (client, given) => client.verifyMac(given.key, given.message, given.mac, given),
  generate_random: (client, given) => client.generateRandom(given.length, given),
  encrypt_to: (client, given) => client.encryptTo(given.publicKey, given.plaintext, given),
  verify_with: (client, given) => client.verifyWith(given.publicKey, signed(given), given),
  encrypt_general: (client, given) => client.encryptGeneral(given.recipients, given.plaintext, given),
  re_encrypt: (client, given) => client.reEncrypt(given.jwe, given),
  rewrap: (client, given) => client.rewrap(given.jwe, given),
  re_sign: (client, given) => client.reSign(given.jws, given),
  generate_data_key: (client, given) => client.generateDataKey(given.key, given),
  decrypt_data_key: (client, given) => client.decryptDataKey(given.wrappedDataKey, given),
  who_am_i: (client, given) => client.whoAmI(given),
  status: (client, given) => client.status(given),
  explain: (client, given) => client.explain(given, given),
  health: (client, given) => client.health(given.service, given),
  'keys.create': (client, given) => client.keys.create(given, given),
  'keys.get': (client, given) => client.keys.get(given.key, given),
  'keys.page': (client, given) => client.keys.page(given, given),
  'keys.list': (client, given) => first(client.keys.list(given, given)),
  'keys.update': (client, given) => client.keys.update(given.key, withoutKey('key', given), given),
  'keys.rotate': (client, given) => client.keys.rotate(given.key, given),
  'keys.suspend': (client, given) => client.keys.suspend(given.key, given),
  'keys.resume': (client, given) => client.keys.resume(given.key, given),
  'keys.revoke': (client, given) => client.keys.revoke(given.key, given),
  'keys.destroy': (client, given) => client.keys.destroy(given.key, given),
  'keys.restore': (client, given) => client.keys.restore(given.key, given),
  'keys.public_key': (client, given) => client.keys.publicKey(given.key, given),
  'keys.import_key': (client, given) => client.keys.importKey(given),
  'keys.import_wrapped': (client, given) => client.keys.import(given, given),
  'keys.import_version': (client, given) => client.keys.importVersion(given, given),
  'keys.rotate_tenant_kek': (client, given) => client.keys.rotateTenantKek(given),
  'audit.records': (client, given) => client.audit.records({ ...given, from: given.start }, given),
  'audit.tail': (client, given) => first(client.audit.tail({ ...given, from: given.start }), given.count),
  'audit.checkpoint': (client, given) => client.audit.checkpoint(given),
  'audit.verify': (client, given) => client.audit.verify(given),
  'streams.encrypt': (client, given) => all(client.streams.encrypt(given.key, pieces(given.data), given)),
  'streams.decrypt': (client, given) => all(client.streams.decrypt(pieces(given.data), given)),
  'streams.re_encrypt': (client, given) => all(client.streams.reEncrypt(pieces(given.data), given)),
  'streams.sign': (client, given) => client.streams.sign(given.key, pieces(given.data), given),
  'streams.re_sign': async (client, given) => {
    const { source, ...answer } = await client.streams.reSign(given.jws, pieces(given.data), given);
    const { algorithm: sourceAlgorithmUsed, ...sourceKeyUsed } = source;
    return { ...answer, sourceKeyUsed, sourceAlgorithmUsed };
  },
  'streams.verify': (client, given) => client.streams.verify(signed(given) as Any, pieces(given.data), given),
  'streams.verify_with': (client, given) =>
    client.streams.verifyWith(given.publicKey, signed(given) as Any, pieces(given.data), given),
};

const answerTo = async (client: MortiseClient, name: string, given: unknown): Promise<unknown> => {
  const call = CALLS[name];
  if (call === undefined) throw new Error(`the runner does not know the call ${name}`);
  try {
    const answer = encoded(await call(client, decoded(given)));
    const isPlain = typeof answer === 'object' && !Array.isArray(answer) && !('base64' in answer);
    return { answer: isPlain ? answer : { value: answer } };
  } catch (thrown) {
    if (!(thrown instanceof MortiseError)) throw thrown;
    const { code, reason, message, retryable, fields, metadata, retryAfterMs, correlationId } = thrown;
    const detail = { retry_after_ms: retryAfterMs ?? null, correlation_id: correlationId ?? null };
    return { error: { code, reason, message, retryable, fields, metadata, ...detail } };
  }
};

let client: MortiseClient | undefined;
const transport = process.argv[2] as TransportKind;
for await (const line of createInterface({ input: process.stdin })) {
  const said = JSON.parse(line);
  if (said.connect !== undefined) {
    client?.close();
    client = connected(said.connect, transport);
    console.log(JSON.stringify({ answer: {} }));
  } else {
    if (client === undefined) throw new Error('a call came before connect');
    console.log(JSON.stringify(await answerTo(client, said.call, said.arguments)));
  }
}
client?.close();
