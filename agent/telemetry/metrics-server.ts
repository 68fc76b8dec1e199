// Serves the metrics over HTTP on a local address or a Unix socket, and what probes of Kubernetes ask for: GET /metrics,
// /livez and /readyz, nothing else. Invariant: few and short connections, so that a scraper can neither hold the program
// up nor use up its descriptors.
import { chmod, unlink } from 'node:fs/promises';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { connect } from 'node:net';

/** What is served: the text and its media type. */
export interface Exposition {
  readonly contentType: string;
  text(): Promise<string>;
}

/** What is in the way of serving, in a word or two without secrets; undefined where nothing is. */
export type NotReady = () => string | undefined;

export interface MetricsServer extends AsyncDisposable {
  /** host:port or the socket's path, as bound. */
  readonly address: string;
}

const MAX_CONNECTIONS = 16; // a scraper or two and a person
const TIMEOUT_MS = 5_000;
const SOCKET_MODE = 0o660;

const PATHS: ReadonlySet<string> = new Set(['/metrics', '/livez', '/readyz']);

const answer = async (
  { metrics, notReady }: { readonly metrics: Exposition; readonly notReady: NotReady },
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> => {
  const { pathname } = new URL(request.url ?? '/', 'http://localhost');
  if (!PATHS.has(pathname)) return void response.writeHead(404).end('try /metrics, /livez or /readyz\n');
  if (request.method !== 'GET' && request.method !== 'HEAD') return void response.writeHead(405).end();
  if (pathname === '/livez') return void response.writeHead(200).end('alive\n');
  if (pathname === '/readyz') {
    const obstacle = notReady();
    return void response.writeHead(obstacle === undefined ? 200 : 503).end(`${obstacle ?? 'ready'}\n`);
  }
  try {
    const text = await metrics.text();
    response.writeHead(200, { 'content-type': metrics.contentType }).end(text);
  } catch {
    response.writeHead(500).end(); // a failing series is skipped in metrics.ts, so this is a fault of ours: no text to give
  }
};

const isAlive = (path: string): Promise<boolean> =>
  new Promise((resolve) => {
    const probe = connect(path);
    probe.once('connect', () => {
      probe.destroy();
      resolve(true);
    });
    probe.once('error', () => resolve(false));
  });

const listen = (server: Server, address: { host: string; port: number } | string): Promise<void> =>
  new Promise((resolve, reject) => {
    server.once('error', reject);
    const done = (): void => {
      server.off('error', reject);
      resolve();
    };
    if (typeof address === 'string') server.listen(address, done);
    else server.listen(address.port, address.host, done);
  });

const addressOf = (server: Server): string => {
  const bound = server.address();
  if (bound === null || typeof bound === 'string') return bound ?? '';
  return bound.family === 'IPv6' ? `[${bound.address}]:${bound.port}` : `${bound.address}:${bound.port}`;
};

/** Listens at a TCP address or, where given a path, on a Unix socket; a socket that nobody answers on is replaced. */
export const startMetricsServer = async (
  metrics: Exposition,
  address: { readonly host: string; readonly port: number } | string,
  notReady: NotReady = () => undefined,
): Promise<MetricsServer> => {
  const server = createServer({ requestTimeout: TIMEOUT_MS, headersTimeout: TIMEOUT_MS, keepAliveTimeout: TIMEOUT_MS });
  server.maxConnections = MAX_CONNECTIONS;
  server.on('request', (request, response) => void answer({ metrics, notReady }, request, response));
  if (typeof address === 'string' && !(await isAlive(address))) await unlink(address).catch(ignoreMissing);
  await listen(server, address);
  if (typeof address === 'string') await chmod(address, SOCKET_MODE);
  server.unref();
  return {
    address: addressOf(server),
    [Symbol.asyncDispose]: async () => {
      server.closeAllConnections();
      await new Promise<void>((resolve) => server.close(() => resolve()));
    },
  };
};

const ignoreMissing = (error: NodeJS.ErrnoException): void => {
  if (error.code !== 'ENOENT') throw error;
};
