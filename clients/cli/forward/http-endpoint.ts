// POST to one receiver over a kept connection. Invariants: plain HTTP goes to this host only; an answer is bounded; every
// failure is a DeliveryError that says whether a repeat can help.
import { type ClientRequest, Agent as HttpAgent, type IncomingMessage, request as requestHttp } from 'node:http';
import { Agent as HttpsAgent, request as requestHttps } from 'node:https';
import { DeliveryError } from './destination.ts';
import type { TlsFiles } from './tls-files.ts';

const MAX_ANSWER_BYTES = 4 * 1024 * 1024; // a bulk answer has some 200 bytes for each of at most 5,000 records
const ANSWER_MS = 30_000;
const EXCERPT = 200;

export interface HttpEndpoint {
  /** Without credentials. */
  readonly address: string;
  /** Resolves with the body of a 2xx answer. */
  post(request: HttpPost): Promise<Buffer>;
  close(): void;
}

export interface HttpPost {
  readonly path: string;
  readonly type: string;
  readonly body: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly signal: AbortSignal;
}

export interface EndpointOptions {
  readonly url: URL;
  /** Value of the Authorization header; asked for each request, so that it can be renewed. */
  readonly authorization?: () => Promise<string>;
  readonly tls: TlsFiles;
}

/** 401 and 403 are not: whoever owns the credentials has to act. */
export const isRetryable = (status: number): boolean => status === 408 || status === 429 || status >= 500;

/** RFC 9110 section 10.2.3: seconds, or a date. */
const retryAfter = ({ headers }: IncomingMessage): number | undefined => {
  const text = headers['retry-after'];
  if (text === undefined) return undefined;
  const waitMs = /^\d{1,6}$/.test(text) ? Number(text) * 1000 : Date.parse(text) - Date.now();
  return Number.isNaN(waitMs) ? undefined : Math.max(0, waitMs);
};

const bodyOf = async (response: IncomingMessage): Promise<Buffer> => {
  const chunks: Buffer[] = [];
  let length = 0;
  for await (const chunk of response as AsyncIterable<Buffer>) {
    length += chunk.length;
    if (length > MAX_ANSWER_BYTES) throw new DeliveryError('the answer has no end', { retryable: true });
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
};

const checked = async (response: IncomingMessage): Promise<Buffer> => {
  const body = await bodyOf(response);
  const status = response.statusCode ?? 0;
  if (status >= 200 && status < 300) return body;
  const waitMs = retryAfter(response);
  throw new DeliveryError(`the receiver answers ${status}: ${body.toString('utf8').slice(0, EXCERPT)}`, {
    retryable: isRetryable(status),
    ...(waitMs !== undefined && { retryAfterMs: waitMs }),
  });
};

export const createHttpEndpoint = ({ url, authorization, tls }: EndpointOptions): HttpEndpoint => {
  const secure = url.protocol === 'https:';
  const agent = secure
    ? new HttpsAgent({ ...tls, keepAlive: true, maxSockets: 1 })
    : new HttpAgent({ keepAlive: true });
  const base = url.pathname.replace(/\/$/, '');
  const begin = (path: string, options: object): ClientRequest => {
    const target = new URL(`${base}${path}`, url);
    return secure ? requestHttps(target, { ...options, agent }) : requestHttp(target, { ...options, agent });
  };
  return {
    address: `${url.protocol}//${url.host}${base}`,
    post: async ({ path, type, body, headers = {}, signal }) => {
      const credentials = authorization && { authorization: await authorization() };
      const timely = AbortSignal.any([signal, AbortSignal.timeout(ANSWER_MS)]);
      try {
        return await new Promise<Buffer>((resolve, reject) => {
          const request = begin(path, {
            method: 'POST',
            signal: timely,
            headers: { 'content-type': type, 'content-length': Buffer.byteLength(body), ...headers, ...credentials },
          });
          request.once('error', reject);
          request.once('response', (response) => void checked(response).then(resolve, reject));
          request.end(body);
        });
      } catch (cause) {
        if (cause instanceof DeliveryError) throw cause;
        signal.throwIfAborted();
        const why = timely.aborted ? 'no answer in time' : (cause as Error).message;
        throw new DeliveryError(why, { retryable: true, cause });
      }
    },
    close: () => agent.destroy(),
  };
};

/** The body as the receiver's JSON; a receiver that answers something else is none. */
export const answerJson = <Answer extends object>(body: Buffer): Answer => {
  if (body.length === 0) return {} as Answer;
  try {
    const value: unknown = JSON.parse(body.toString('utf8'));
    if (typeof value === 'object' && value !== null) return value as Answer;
  } catch {
    // said below, with what came
  }
  throw new DeliveryError(`the answer is not JSON: ${body.toString('utf8').slice(0, EXCERPT)}`, { retryable: false });
};
