// The accepted connections, each with its peer. Invariants: a connection has a peer or does not exist; no uid has more
// than its share; a connection that says nothing is cut and meanwhile costs others nothing but its share.
import { randomUUID } from 'node:crypto';
import type { Socket } from 'node:net';
import type { Peer } from '../operations/ports/call.ts';
import type { ServerLimits } from './limits.ts';

export type CutReason = 'NO_PEER' | 'TOO_MANY' | 'TOO_MANY_OF_UID' | 'SILENT' | 'SLOW_READER';

export interface ConnectionEvents {
  connectionOpened(event: { peer: Peer; open: number }): void;
  connectionClosed(event: { peer: Peer; open: number }): void;
  /** Refused or cut by the agent. */
  connectionCut(event: { reason: CutReason; peer: Peer | undefined; cause?: unknown }): void;
}

/** One connection: its peer, and what its client makes the agent hold. */
export class Connection {
  readonly peer: Peer;
  /** Of answers that the client has yet to take up. */
  unreadBytes = 0;
  /** Pipeline streams that are open on it. */
  pipelines = 0;
  readonly #socket: Socket;
  readonly #events: ConnectionEvents;
  readonly #silence: NodeJS.Timeout;

  constructor(parts: { peer: Peer; socket: Socket; events: ConnectionEvents; limits: ServerLimits }) {
    this.peer = parts.peer;
    this.#socket = parts.socket;
    this.#events = parts.events;
    this.#silence = setTimeout(() => this.cut('SILENT'), parts.limits.firstCallMs);
    this.#silence.unref();
    parts.socket.once('close', () => clearTimeout(this.#silence));
  }

  /** A call has begun on it. */
  heard(): void {
    clearTimeout(this.#silence);
  }

  cut(reason: CutReason): void {
    if (this.#socket.destroyed) return;
    this.#events.connectionCut({ reason, peer: this.peer });
    this.#socket.destroy();
  }

  destroy(): void {
    this.#socket.destroy();
  }
}

export class Connections {
  readonly #limits: ServerLimits;
  readonly #events: ConnectionEvents;
  readonly #peerOf: (socket: Socket) => Peer;
  readonly #open = new Map<string, Connection>();
  readonly #perUid = new Map<number, number>();
  #emptied: (() => void) | undefined;

  constructor(parts: { limits: ServerLimits; events: ConnectionEvents; peerOf: (socket: Socket) => Peer }) {
    this.#limits = parts.limits;
    this.#events = parts.events;
    this.#peerOf = parts.peerOf;
  }

  get size(): number {
    return this.#open.size;
  }

  /** Admits a paused socket, or destroys it and answers false. Nothing of it has been read yet. */
  accept(socket: Socket): boolean {
    socket.on('error', () => undefined); // a peer that resets is gone, which 'close' tells as well
    const peer = this.#admit(socket);
    if (peer === undefined) {
      socket.destroy();
      return false;
    }
    const name = randomUUID();
    // Empty on a Unix socket, and the one property of a connection that grpc-js shows to its calls (getPeer).
    Object.defineProperty(socket, 'remoteAddress', { value: name });
    this.#open.set(name, new Connection({ peer, socket, events: this.#events, limits: this.#limits }));
    this.#perUid.set(peer.uid, (this.#perUid.get(peer.uid) ?? 0) + 1);
    socket.once('close', () => this.#forget(name, peer));
    this.#events.connectionOpened({ peer, open: this.#open.size });
    return true;
  }

  /** The connection of a call, by the call's getPeer(). */
  of(name: string): Connection | undefined {
    return this.#open.get(name);
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

  #admit(socket: Socket): Peer | undefined {
    let peer: Peer;
    try {
      peer = this.#peerOf(socket);
    } catch (cause) {
      this.#events.connectionCut({ reason: 'NO_PEER', peer: undefined, cause });
      return undefined;
    }
    const full = this.#open.size >= this.#limits.maxConnections;
    if (full || (this.#perUid.get(peer.uid) ?? 0) >= this.#limits.maxConnectionsPerUid) {
      this.#events.connectionCut({ reason: full ? 'TOO_MANY' : 'TOO_MANY_OF_UID', peer });
      return undefined;
    }
    return peer;
  }

  #forget(name: string, peer: Peer): void {
    this.#open.delete(name);
    const left = (this.#perUid.get(peer.uid) ?? 1) - 1;
    if (left > 0) this.#perUid.set(peer.uid, left);
    else this.#perUid.delete(peer.uid);
    this.#events.connectionClosed({ peer, open: this.#open.size });
    if (this.#open.size === 0) this.#emptied?.();
  }
}
