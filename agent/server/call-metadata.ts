// The metadata of a call: measured, and the two values that the agent reads from it. Nothing else in it has a meaning;
// above all, nothing in it names a tenant.
import { randomUUID } from 'node:crypto';
import type { Metadata } from '@grpc/grpc-js';

const CORRELATION_ID = /^[A-Za-z0-9._-]{1,64}$/;
const ENTRY_OVERHEAD_BYTES = 32; // as HTTP/2 counts header lists, RFC 9113 section 6.5.2

export const metadataBytes = (metadata: Metadata): number => {
  let bytes = 0;
  for (const [key, values] of Object.entries(metadata.toJSON())) {
    for (const value of values) bytes += key.length + value.length + ENTRY_OVERHEAD_BYTES;
  }
  return bytes;
};

/** The caller's own id where it is one that may stand in logs, else undefined. */
export const acceptedCorrelationId = (value: unknown): string | undefined =>
  typeof value === 'string' && CORRELATION_ID.test(value) ? value : undefined;

/** The caller's own id, or a new one. */
export const correlationIdOf = (metadata: Metadata): string => {
  for (const name of ['x-correlation-id', 'x-request-id']) {
    const accepted = acceptedCorrelationId(metadata.get(name)[0]);
    if (accepted !== undefined) return accepted;
  }
  return randomUUID();
};

export const authorizationOf = (metadata: Metadata): readonly string[] => metadata.get('authorization').map(String);
