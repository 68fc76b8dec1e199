// The vectors of docs/spec/chunked.md as values.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';

export const CONTAINER_VECTORS = join(import.meta.dirname, '../vectors/chunked/containers.json');

export interface ContainerVector {
  readonly name: string;
  readonly kek: Buffer;
  readonly context: Buffer;
  readonly container: Buffer;
  readonly plaintext: Buffer | undefined;
  readonly error: 'INVALID_REQUEST' | 'INVALID_CIPHERTEXT' | undefined;
}

interface Row {
  readonly name: string;
  readonly kek: string;
  readonly context: string;
  readonly container: string;
  readonly plaintext?: { readonly byte: string; readonly length: number };
  readonly error?: ContainerVector['error'];
}

export const readContainerVectors = (): readonly ContainerVector[] => {
  const rows = JSON.parse(readFileSync(CONTAINER_VECTORS, 'utf8')) as Row[];
  assert.ok(rows.length > 8, `only ${rows.length} vectors`);
  return rows.map(({ name, kek, context, container, plaintext, error }) => ({
    name,
    kek: Buffer.from(kek, 'hex'),
    context: Buffer.from(context, 'hex'),
    container: Buffer.from(container, 'base64url'),
    plaintext: plaintext && Buffer.alloc(plaintext.length, Buffer.from(plaintext.byte, 'hex')),
    error,
  }));
};
