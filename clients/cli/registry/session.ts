// An administrator's credentials in one folder, and calls to the registry with them. Invariants: the key is readable by
// its user alone; the registry is known by the root that was pinned at the enrolment and by nothing else.
import { createPrivateKey, createPublicKey, generateKeyPairSync, X509Certificate } from 'node:crypto';
import { chmod, mkdir, readFile, stat } from 'node:fs/promises';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { createSecureContext } from 'node:tls';
import { ChannelCredentials, Client, type ServiceError } from '@grpc/grpc-js';
import { certificateRequest } from '../../../proto/documents/certificate-request.ts';
import { type Credentials, HostsServiceService } from '../../../proto/gen/mortise/registry/v1/hosts.ts';
import type { Context } from '../context.ts';
import { CliError } from '../exit-codes.ts';
import { writeFileWhole } from '../files.ts';
import { registryFailure } from './failure.ts';

export interface SessionOptions {
  readonly adminDir?: string;
  /** host:port, in place of the one of the enrolment. */
  readonly registry?: string;
}

/** A method as the generated service definitions have it. */
export interface Method<Req, Res> {
  readonly path: string;
  readonly requestSerialize: (request: Req) => Buffer;
  readonly responseDeserialize: (bytes: Buffer) => Res;
}

export interface Identity {
  readonly name: string;
  readonly address: string;
  /** PEM. */
  readonly key: string;
  readonly chain: string;
  readonly roots: readonly string[];
  readonly renewAt: number;
  /** As it was at the enrolment; renewals do not change it. Absent in credentials of older versions. */
  readonly pinned?: {
    readonly trustDomain: string;
    /** JSON, byte for byte. */
    readonly trustAnchor: string;
    readonly sealingJwk: string;
    readonly cosigner: string;
  };
}

const DEADLINE_MS = 30_000;
const SCHEMA = 'mortise.admin-credentials/v1';
const FILE = 'admin.json';
const OTHERS = 0o077;

export const adminDirOf = (context: Context, { adminDir }: SessionOptions): string =>
  adminDir ?? (context.io.env['MORTISE_ADMIN_DIR'] || join(homedir(), '.config/mortise/admin'));

export const readIdentity = async (dir: string): Promise<Identity> => {
  const path = join(dir, FILE);
  try {
    if (((await stat(path)).mode & OTHERS) !== 0) {
      throw new CliError('failure', `others than you can read ${path}; chmod 0600 it`);
    }
    const { schema, ...identity } = JSON.parse(await readFile(path, 'utf8'));
    if (schema !== SCHEMA) throw new CliError('failure', `${path} is not of the schema ${SCHEMA}`);
    return identity;
  } catch (cause) {
    if (cause instanceof CliError) throw cause;
    const missing = (cause as NodeJS.ErrnoException).code === 'ENOENT';
    const what = missing ? 'you are no administrator here; run "mortise registry enrol"' : (cause as Error).message;
    throw new CliError('failure', `${path}: ${what}`, cause);
  }
};

export const writeIdentity = async (dir: string, identity: Identity): Promise<void> => {
  await mkdir(dir, { recursive: true, mode: 0o700 });
  await chmod(dir, 0o700);
  const text = `${JSON.stringify({ schema: SCHEMA, ...identity }, null, 2)}\n`;
  await writeFileWhole(join(dir, FILE), text, { force: true, mode: 0o600 });
};

export const dial = (address: string, identity: { roots: readonly string[]; key?: string; chain?: string }): Client => {
  const { roots, key, chain } = identity;
  const own = key === undefined || chain === undefined ? {} : { key, cert: chain };
  const context = createSecureContext({ ca: [...roots], minVersion: 'TLSv1.3', ...own });
  return new Client(address, ChannelCredentials.createFromSecureContext(context), { 'grpc.enable_retries': 0 });
};

export const callOn = <Req, Res>(
  { client, address, signal }: { readonly client: Client; readonly address: string; readonly signal: AbortSignal },
  method: Method<Req, Res>,
  request: Req,
): Promise<Res> =>
  new Promise((resolve, reject) => {
    const { path, requestSerialize, responseDeserialize } = method;
    const options = { deadline: Date.now() + DEADLINE_MS };
    const call = client.makeUnaryRequest(
      path,
      requestSerialize,
      responseDeserialize,
      request,
      options,
      (error, answer) => {
        if (error !== null) reject(registryFailure(error, address));
        else resolve(answer as Res);
      },
    );
    signal.addEventListener('abort', () => call.cancel(), { once: true });
  });

/** A new key pair and the request for its certificate. */
export const newRequest = (name: string): { readonly key: string; readonly request: Buffer } => {
  const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const key = privateKey.export({ format: 'pem', type: 'pkcs8' }).toString();
  return { key, request: certificateRequest({ name, privateKey, publicKey }) };
};

const pemOf = (der: Uint8Array): string => new X509Certificate(Buffer.from(der)).toString();

/** Throws where the certificate is not for the key. */
export const issued = (
  credentials: Credentials | undefined,
  key: string,
): Pick<Identity, 'chain' | 'roots' | 'renewAt' | 'pinned'> => {
  const chain = (credentials?.certificateChain ?? []).map(pemOf);
  const own = chain[0] === undefined ? undefined : new X509Certificate(chain[0]);
  const spki = createPublicKey(createPrivateKey(key)).export({ format: 'der', type: 'spki' });
  if (own?.publicKey.export({ format: 'der', type: 'spki' }).equals(spki) !== true) {
    throw new CliError('failure', 'the registry answered with a certificate of another key');
  }
  const roots = (credentials?.registryRoots ?? []).map(pemOf);
  const pinned = {
    trustDomain: credentials?.trustDomain ?? '',
    trustAnchor: Buffer.from(credentials?.trustAnchor ?? []).toString('utf8'),
    sealingJwk: credentials?.sealingJwk ?? '',
    cosigner: credentials?.cosigner ?? '',
  };
  return { chain: chain.join(''), roots, renewAt: credentials?.renewTime?.getTime() ?? 0, pinned };
};

export interface Session extends Disposable {
  readonly identity: Identity;
  call<Req, Res>(method: Method<Req, Res>, request: Req): Promise<Res>;
  /** Messages as they come, read no faster than they are taken. Without a deadline: an export may be large. */
  stream<Req, Res>(method: Method<Req, Res>, request: Req, until?: AbortSignal): AsyncIterable<Res>;
}

async function* streamOn<Req, Res>(
  { client, address, signal }: { readonly client: Client; readonly address: string; readonly signal: AbortSignal },
  { path, requestSerialize, responseDeserialize }: Method<Req, Res>,
  request: Req,
): AsyncGenerator<Res> {
  const call = client.makeServerStreamRequest(path, requestSerialize, responseDeserialize, request);
  const cancel = (): void => call.cancel();
  signal.addEventListener('abort', cancel, { once: true });
  try {
    yield* call as AsyncIterable<Res>;
  } catch (error) {
    throw registryFailure(error as ServiceError, address);
  } finally {
    signal.removeEventListener('abort', cancel);
    call.cancel();
  }
}

const renewed = async (context: Context, identity: Identity, dir: string): Promise<Identity> => {
  const { key, request } = newRequest(identity.name);
  const client = dial(identity.address, identity);
  try {
    const target = { client, address: identity.address, signal: context.io.signal };
    const answer = await callOn(target, HostsServiceService.renew, { certificateRequest: request });
    const { pinned: _, ...given } = issued(answer.credentials, key);
    const next = { ...identity, key, ...given };
    if (!next.roots.some((root) => identity.roots.includes(root))) {
      throw new CliError('failure', 'the registry names other roots than the pinned ones; nothing was changed');
    }
    await writeIdentity(dir, next);
    return next;
  } finally {
    client.close();
  }
};

/** Opens the session of the administrator whose credentials are here; renews them when it is time. */
export const openSession = async (context: Context, options: SessionOptions): Promise<Session> => {
  const dir = adminDirOf(context, options);
  const stored = await readIdentity(dir);
  const address = options.registry ?? (context.io.env['MORTISE_REGISTRY'] || stored.address);
  const known = { ...stored, address };
  const identity = Date.now() < stored.renewAt ? known : await renewed(context, known, dir);
  const client = dial(address, identity);
  return {
    identity,
    call: (method, request) => callOn({ client, address, signal: context.io.signal }, method, request),
    stream: (method, request, until) => {
      const { signal } = context.io;
      const ends = until === undefined ? signal : AbortSignal.any([signal, until]);
      return streamOn({ client, address, signal: ends }, method, request);
    },
    [Symbol.dispose]: () => client.close(),
  };
};
