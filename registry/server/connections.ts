// The open connections, each with its peer and its calls. Invariants: no client has more than its share; one that says
// nothing is cut; whoever is cut off has no call left when his socket closes.
import { randomUUID } from 'node:crypto';
import type { TLSSocket } from 'node:tls';
import type { RegistryError } from '../errors.ts';
import type { ServerLimits } from './limits.ts';
import type { Peer } from './peer.ts';

export type CutReason = 'TOO_MANY' | 'TOO_MANY_OF_CLIENT' | 'SILENT' | 'HANDSHAKE' | 'REVOKED';

export interface ConnectionEvents {
  connectionOpened(event: { client: string; open: number }): void;
  connectionClosed(event: { client: string; open: number }): void;
  connectionCut(event: { reason: CutReason; client: string; cause?: unknown }): void;
}

/** What a connection needs to know of a call. */
export interface Cuttable {
  /** Ends it with the error. */
  abort(error: RegistryError): void;
  readonly ended: Promise<void>;
}

const LAST_WORDS_MS = 300; // for each call to end with its status
const LAST_BYTES_MS = 100; // for the statuses to go out

/** How a client is counted and named: by its certificate, else by its address. */
export const clientOf = ({ claims, address }: Peer): string =>
  claims === undefined ? address : `${claims.kind}/${claims.name}`;

export class Connection {
  readonly peer: Peer;
  readonly calls = new Set<Cuttable>();
  readonly #socket: TLSSocket;
  readonly #events: ConnectionEvents;
  readonly #silence: NodeJS.Timeout;
  #cut = false;

  constructor(parts: { peer: Peer; socket: TLSSocket; events: ConnectionEvents; limits: ServerLimits }) {
    this.peer = parts.peer;
    this.#socket = parts.socket;
    this.#events = parts.events;
    this.#silence = setTimeout(() => {
      this.#events.connectionCut({ reason: 'SILENT', client: clientOf(this.peer) });
      this.destroy();
    }, parts.limits.firstCallMs);
    this.#silence.unref();
    parts.socket.once('close', () => clearTimeout(this.#silence));
  }

  /** A call has begun on it. */
  heard(): void {
    clearTimeout(this.#silence);
  }

  /** Ends every call with the error, then the connection. */
  async cut(error: RegistryError): Promise<void> {
    if (this.#cut) return;
    this.#cut = true;
    this.#events.connectionCut({ reason: 'REVOKED', client: clientOf(this.peer), cause: error });
    const ended = [...this.calls].map((call) => {
      call.abort(error);
      return call.ended;
    });
    const late = Promise.withResolvers<void>();
    const timer = setTimeout(late.resolve, LAST_WORDS_MS);
    await Promise.race([Promise.all(ended), late.promise]);
    clearTimeout(timer);
    setTimeout(() => this.#socket.destroy(), LAST_BYTES_MS).unref(); // HTTP/2 writes in a later turn
  }

  destroy(): void {
    this.#socket.destroy();
  }
}

export class Connections {
  readonly #limits: ServerLimits;
  readonly #events: ConnectionEvents;
  readonly #open = new Map<string, Connection>();
  readonly #perClient = new Map<string, number>();
  #emptied: (() => void) | undefined;

  constructor(parts: { readonly limits: ServerLimits; readonly events: ConnectionEvents }) {
    this.#limits = parts.limits;
    this.#events = parts.events;
  }

  /** Admits a socket, or destroys it and answers false. */
  accept(socket: TLSSocket, peer: Peer): boolean {
    socket.on('error', () => undefined); // a peer that resets is gone, which 'close' tells as well
    const client = clientOf(peer);
    const full = this.#open.size >= this.#limits.maxConnections;
    if (full || (this.#perClient.get(client) ?? 0) >= this.#limits.maxConnectionsPerClient) {
      this.#events.connectionCut({ reason: full ? 'TOO_MANY' : 'TOO_MANY_OF_CLIENT', client });
      socket.destroy();
      return false;
    }
    const name = randomUUID();
    // The one property of a connection that grpc-js shows to its calls (getPeer).
    Object.defineProperty(socket, 'remoteAddress', { value: name });
    Object.defineProperty(socket, 'remotePort', { value: undefined });
    this.#open.set(name, new Connection({ peer, socket, events: this.#events, limits: this.#limits }));
    this.#perClient.set(client, (this.#perClient.get(client) ?? 0) + 1);
    socket.once('close', () => this.#forget(name, client));
    this.#events.connectionOpened({ client, open: this.#open.size });
    return true;
  }

  /** The connection of a call, by the call's getPeer(). */
  of(name: string): Connection | undefined {
    return this.#open.get(name);
  }

  all(): readonly Connection[] {
    return [...this.#open.values()];
  }

  /** Resolves when none is open. */
  async closed(): Promise<void> {
    if (this.#open.size === 0) return;
    await new Promise<void>((resolve) => {
      this.#emptied = resolve;
    });
  }

  destroyAll(): void {
    for (const connection of this.#open.values()) connection.destroy();
  }

  #forget(name: string, client: string): void {
    this.#open.delete(name);
    const left = (this.#perClient.get(client) ?? 1) - 1;
    if (left > 0) this.#perClient.set(client, left);
    else this.#perClient.delete(client);
    this.#events.connectionClosed({ client, open: this.#open.size });
    if (this.#open.size === 0) this.#emptied?.();
  }
}
