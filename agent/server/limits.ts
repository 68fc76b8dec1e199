// The limits of the socket, with the reason of each value. They bound what one caller can take from the others; what
// bounds a tenant is its rate limit.

export interface ServerLimits {
  readonly maxConnections: number;
  readonly maxConnectionsPerUid: number;
  /** Per connection; more wait in the client (HTTP/2 SETTINGS_MAX_CONCURRENT_STREAMS). */
  readonly maxStreams: number;
  readonly maxRequestBytes: number;
  readonly maxMetadataBytes: number;
  /** Of a call whose client sets no deadline. */
  readonly defaultDeadlineMs: number;
  readonly maxDeadlineMs: number;
  /** Of a stream (TailRecords, health Watch, reflection): its client opens it again. */
  readonly maxStreamDeadlineMs: number;
  /** A connection on which no call was begun by then is cut. */
  readonly firstCallMs: number;
  /** A connection without a call for this long is closed. */
  readonly idleMs: number;
  /** HTTP/2 pings find out that a peer is gone. */
  readonly keepaliveMs: number;
  readonly keepaliveTimeoutMs: number;
  /** Answers that a client has not taken up, per connection; beyond it new calls are OVERLOADED. */
  readonly maxUnreadBytes: number;
  /** A client that takes longer to take up an answer is cut. */
  readonly answerMs: number;
  readonly maxPipelinesPerConnection: number;
  /** Operations in flight on one pipeline; beyond it they are OVERLOADED. */
  readonly pipelineWindow: number;
  /** Requests in flight on one pipeline; beyond it the agent stops reading for a while. */
  readonly maxPipelineRequestBytes: number;
  /** Answers that wait to be sent on one pipeline; beyond it the agent stops reading for a while. */
  readonly maxPipelineAnswerBytes: number;
  readonly maxBatchCalls: number;
  /** Operations of one batch that are under way at a time. */
  readonly batchAtOnce: number;
  /** Once its answers are larger, the rest of a batch is not begun. */
  readonly maxBatchAnswerBytes: number;
}

export const DEFAULT_LIMITS: ServerLimits = {
  maxConnections: 1024, // with the token pool and LMDB well below the usual 1,024 × n of RLIMIT_NOFILE
  maxConnectionsPerUid: 256, // a pre-forked application server; four such uids at once
  maxStreams: 128,
  maxRequestBytes: 4 * 1024 * 1024, // gRPC's usual limit; the largest field is a JWE of 3 MiB
  maxMetadataBytes: 16 * 1024, // a bearer token of 8 KiB and as much again
  defaultDeadlineMs: 30_000,
  maxDeadlineMs: 120_000, // RSA-4096 generation on a slow HSM takes tens of seconds
  maxStreamDeadlineMs: 3_600_000,
  firstCallMs: 20_000, // clients that connect ahead of their first call connect again
  idleMs: 300_000,
  keepaliveMs: 60_000,
  keepaliveTimeoutMs: 20_000,
  maxUnreadBytes: 32 * 1024 * 1024,
  answerMs: 30_000,
  maxPipelinesPerConnection: 8, // a client needs one; each may hold 64 MiB of requests that were read but not begun
  pipelineWindow: 256, // at 64 in flight a token on two cores is as busy as it can be; more serves slow networks of HSMs
  maxPipelineRequestBytes: 16 * 1024 * 1024, // four of the largest
  maxPipelineAnswerBytes: 1024 * 1024,
  maxBatchCalls: 256,
  batchAtOnce: 32, // of the largest answers, 16 MiB of audit records each
  maxBatchAnswerBytes: 16 * 1024 * 1024,
};
