// Clients of a registry for tests: real TLS, certificates as the registry issued them, refusals as their reason.
import { generateKeyPairSync, type KeyObject, X509Certificate } from 'node:crypto';
import { createSecureContext } from 'node:tls';
import {
  ChannelCredentials,
  Client,
  type ClientDuplexStream,
  type ClientReadableStream,
  type ServiceError,
} from '@grpc/grpc-js';
import { certificateRequest } from '../../proto/documents/certificate-request.ts';
import { ErrorInfo, Status } from '../../proto/gen/google/rpc/status.ts';
import { type EnrolResponse, HostsServiceService } from '../../proto/gen/mortise/registry/v1/hosts.ts';

export interface Method<Req, Res> {
  readonly path: string;
  readonly requestSerialize: (request: Req) => Buffer;
  readonly responseDeserialize: (bytes: Buffer) => Res;
}

export interface Certified {
  readonly name: string;
  readonly key: string;
  /** PEM. */
  readonly chain: string;
  readonly roots: readonly string[];
  readonly response: EnrolResponse;
}

const WAIT_MS = 30_000;

/** The reason in ErrorInfo of a refused call, or the gRPC code's number where there is none. */
export const reasonOf = (error: unknown): string => {
  const bytes = (error as ServiceError).metadata?.get('grpc-status-details-bin')[0];
  if (!Buffer.isBuffer(bytes)) return `grpc ${(error as ServiceError).code ?? String(error)}`;
  const info = Status.decode(bytes).details.find(({ typeUrl }) => typeUrl.endsWith('google.rpc.ErrorInfo'));
  return info === undefined ? 'no ErrorInfo' : ErrorInfo.decode(info.value).reason;
};

/** For assert.rejects: the call was refused with this reason. */
export const refusedWith =
  (reason: string) =>
  (error: unknown): boolean => {
    if (reasonOf(error) !== reason) throw new Error(`refused with ${reasonOf(error)}, not ${reason}`, { cause: error });
    return true;
  };

export const newKey = (): { readonly privateKey: KeyObject; readonly publicKey: KeyObject; readonly pem: string } => {
  const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  return { privateKey, publicKey, pem: privateKey.export({ format: 'pem', type: 'pkcs8' }).toString() };
};

/** A client with the certificate, or with none. */
export const connectTo = (
  port: number,
  options: {
    readonly roots: readonly string[];
    readonly key?: string;
    readonly chain?: string;
    readonly groups?: string;
  },
): Client => {
  const context = createSecureContext({
    ca: [...options.roots],
    minVersion: 'TLSv1.3',
    ...(options.groups !== undefined && { ecdhCurve: options.groups }),
    ...(options.key !== undefined && { key: options.key, cert: options.chain as string }),
  });
  return new Client(`localhost:${port}`, ChannelCredentials.createFromSecureContext(context), {
    'grpc.enable_retries': 0,
    'grpc.use_local_subchannel_pool': 1,
  });
};

export const unary = <Req, Res>(client: Client, method: Method<Req, Res>, request: Req): Promise<Res> =>
  new Promise((resolve, reject) => {
    const { path, requestSerialize, responseDeserialize } = method;
    client.makeUnaryRequest(
      path,
      requestSerialize,
      responseDeserialize,
      request,
      { deadline: Date.now() + WAIT_MS },
      (error, value) => {
        if (error !== null) reject(error);
        else resolve(value as Res);
      },
    );
  });

/** The messages of a stream one by one; `next` waits for one, `end` for the reason that it ended with ("ok" at a good end). */
export interface Messages<Res> {
  next(): Promise<Res>;
  readonly end: Promise<string>;
  cancel(): void;
}

const messagesOf = <Res>(stream: ClientReadableStream<Res> | ClientDuplexStream<never, Res>): Messages<Res> => {
  const arrived: Res[] = [];
  const waiting: { resolve(value: Res): void; reject(error: Error): void }[] = [];
  let ended: string | undefined;
  const end = new Promise<string>((resolve) => {
    stream.on('data', (message: Res) => {
      const waiter = waiting.shift();
      if (waiter === undefined) arrived.push(message);
      else waiter.resolve(message);
    });
    const finish = (reason: string): void => {
      ended ??= reason;
      for (const waiter of waiting.splice(0)) waiter.reject(new Error(`the stream ended with ${reason}`));
      resolve(reason);
    };
    stream.on('error', (error: Error) => finish(reasonOf(error)));
    stream.on('end', () => finish('ok'));
  });
  return {
    end,
    cancel: () => stream.cancel(),
    next: () => {
      const message = arrived.shift();
      if (message !== undefined) return Promise.resolve(message);
      if (ended !== undefined) return Promise.reject(new Error(`the stream ended with ${ended}`));
      const { promise, resolve, reject } = Promise.withResolvers<Res>();
      const late = setTimeout(() => reject(new Error(`no message of the stream in ${WAIT_MS} ms`)), WAIT_MS);
      waiting.push({ resolve, reject });
      return promise.finally(() => clearTimeout(late));
    },
  };
};

export const serverStream = <Req, Res>(client: Client, method: Method<Req, Res>, request: Req): Messages<Res> =>
  messagesOf(client.makeServerStreamRequest(method.path, method.requestSerialize, method.responseDeserialize, request));

export const duplex = <Req, Res>(
  client: Client,
  method: Method<Req, Res>,
): Messages<Res> & { write(request: Req): void; close(): void } => {
  const stream = client.makeBidiStreamRequest(method.path, method.requestSerialize, method.responseDeserialize);
  const messages = messagesOf<Res>(stream as unknown as ClientReadableStream<Res>);
  return { ...messages, write: (request) => void stream.write(request), close: () => stream.end() };
};

export const pemOf = (der: Uint8Array): string => new X509Certificate(Buffer.from(der)).toString();

/** Trades a token for a certificate, over TLS that trusts `roots`. */
export const enrolWith = async (
  port: number,
  options: { readonly token: string; readonly roots: readonly string[]; readonly keys?: ReturnType<typeof newKey> },
): Promise<Certified> => {
  const { token, roots, keys = newKey() } = options;
  const client = connectTo(port, { roots });
  try {
    const request = { token, certificateRequest: certificateRequest({ name: 'anything', ...keys }) };
    const response = await unary(client, HostsServiceService.enrol, request);
    const { certificateChain = [], registryRoots = [] } = response.credentials ?? {};
    const chain = certificateChain.map(pemOf).join('');
    return { name: response.name, key: keys.pem, chain, roots: registryRoots.map(pemOf), response };
  } finally {
    client.close();
  }
};
