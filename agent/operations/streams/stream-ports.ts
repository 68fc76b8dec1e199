// What the streaming use cases need beyond the unary ones: fresh openings, a share of the streams for each tenant, and
// the bounds of one stream.
import type { Ports } from '../perform.ts';

export interface OpeningsPort {
  /** Takes an opening once; OPENING_REFUSED where it was used before or its time is not now. Durable when it resolves. */
  take(opening: {
    readonly tenant: string;
    readonly principal: string;
    readonly nonce: Buffer;
    readonly timestamp: number;
  }): Promise<void>;
}

export interface StreamSlotsPort {
  /** One more stream of the tenant, until the answer is called; OVERLOADED where it has its share. */
  enter(tenant: string): () => void;
}

export interface StreamPorts extends Ports {
  readonly openings: OpeningsPort;
  readonly streamSlots: StreamSlotsPort;
  readonly streamLimits: {
    /** Most bytes that a stream may bring. */
    readonly maxBytes: number;
    /** Longest wait for the client's next message. */
    readonly idleMs: number;
  };
}
