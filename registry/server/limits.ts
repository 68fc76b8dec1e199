// The limits of the registry's socket, with the reason of each value.

export interface ServerLimits {
  readonly maxConnections: number;
  readonly maxConnectionsPerClient: number;
  readonly maxStreams: number;
  readonly maxMessageBytes: number;
  readonly handshakeMs: number;
  /** A connection on which no call was begun by then is cut. */
  readonly firstCallMs: number;
  /** Of a call that is no stream and whose client sets no deadline. */
  readonly defaultDeadlineMs: number;
  readonly keepaliveMs: number;
  readonly keepaliveTimeoutMs: number;
  /** Messages of a stream that were read and not yet handled. */
  readonly maxUnhandled: number;
  /** A client that does not take up a message for so long is cut. */
  readonly answerMs: number;
  /** How often every connection is judged anew, whatever was told. */
  readonly sweepMs: number;
}

export const DEFAULT_LIMITS: ServerLimits = {
  maxConnections: 4096,
  maxConnectionsPerClient: 16,
  maxStreams: 64, // a host has a handful of streams and a few calls at once
  maxMessageBytes: 4 * 1024 * 1024 + 64 * 1024, // the contract's 4 MiB, and what surrounds them
  handshakeMs: 10_000,
  firstCallMs: 20_000,
  defaultDeadlineMs: 30_000,
  keepaliveMs: 20_000,
  keepaliveTimeoutMs: 10_000,
  maxUnhandled: 16, // ledger batches of 1 MiB
  answerMs: 30_000,
  sweepMs: 15_000,
};
