// Moves one ciphertext by the operation that policy and form allow, and has the agent read the new one before it counts.
// Invariant: no plaintext comes here; what comes back names the keys that it was to go to.
import { createReadStream } from 'node:fs';
import type { CallOptions, MortiseClient, MortiseError } from '../../typescript/index.ts';
import { type Ciphertext, CONTAINER_MAGIC, LEAD_BYTES, MAX_HEADER_BYTES, parseContainerHeader } from './ciphertext.ts';
import type { Outdated, Targets } from './targets.ts';

export type Method = 'auto' | 'rewrap' | 're-encrypt';

export interface MoveInput {
  readonly path: string;
  readonly found: Ciphertext;
  readonly what: Outdated;
  readonly method: Method;
  /** Key to move to, where it is not that of the ciphertext. */
  readonly to: string | undefined;
  readonly associatedData: Buffer | undefined;
  /** Of a detached JWS. */
  readonly message: Buffer | undefined;
}

export interface NewContent {
  readonly method: 're-encrypt' | 'rewrap' | 're-sign';
  /** To be written; of a stream to be read once. */
  readonly pieces: AsyncIterable<Uint8Array>;
}

/** The new ciphertext is not what it has to be. The old one stays. */
export class Unverified extends Error {}

const BLOCK_BYTES = 4096; // docs/spec/chunked.md, Layout

async function* once(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
  yield bytes;
}

const headOf = (header: string): Buffer => {
  const json = Buffer.from(header);
  const padded = Math.ceil((LEAD_BYTES + json.length) / BLOCK_BYTES) * BLOCK_BYTES - LEAD_BYTES;
  if (padded > MAX_HEADER_BYTES) throw new Unverified('the new header is over 64 KiB');
  const bytes = Buffer.alloc(LEAD_BYTES + padded, ' ');
  CONTAINER_MAGIC.copy(bytes);
  bytes.writeUInt32BE(padded, CONTAINER_MAGIC.length);
  json.copy(bytes, LEAD_BYTES);
  return bytes;
};

async function* withHead(header: string, path: string, start: number): AsyncGenerator<Uint8Array> {
  yield headOf(header);
  yield* createReadStream(path, { start }) as AsyncIterable<Buffer>;
}

/** Refusals after which another operation may still be allowed. */
const ELSE: ReadonlySet<string> = new Set(['POLICY_DENIED', 'FIPS_ONLY', 'PERMISSION_DENIED', 'INVALID_REQUEST']);

export class Mover {
  readonly #client: MortiseClient;
  readonly #call: CallOptions;
  readonly #streams: CallOptions;
  readonly #targets: Targets;

  /** `streams`: options of calls that may take long, and may be broken off. */
  constructor(input: {
    readonly client: MortiseClient;
    readonly call: CallOptions;
    readonly streams: CallOptions;
    readonly targets: Targets;
  }) {
    this.#client = input.client;
    this.#call = input.call;
    this.#streams = input.streams;
    this.#targets = input.targets;
  }

  async move(input: MoveInput): Promise<NewContent> {
    const { found, method } = input;
    if (found.form === 'jws') return this.#reSign(input);
    const canRewrap = found.form !== 'jwe' && method !== 're-encrypt' && input.what.sourceKey === undefined;
    if (!canRewrap) return this.#reEncrypt(input);
    try {
      return await this.#rewrap(input);
    } catch (error) {
      // With others among its recipients only Rewrap keeps it theirs.
      const mayTryElse = method === 'auto' && input.what.others === 0 && ELSE.has((error as MortiseError).code);
      if (!mayTryElse) throw error;
      return this.#reEncrypt(input);
    }
  }

  /** Reads the new ciphertext as anybody would, and has the agent open it once. */
  async verify(found: Ciphertext | undefined, input: MoveInput, { open }: { readonly open: boolean }): Promise<void> {
    const { form } = input.found;
    const isJose = (name: string): boolean => name === 'jwe' || name === 'jwe-json';
    if (found === undefined || (found.form !== form && !(isJose(found.form) && isJose(form)))) {
      throw new Unverified('the new ciphertext is of another form');
    }
    const assessed = await this.#targets.assess(found);
    if (assessed.state !== 'left' || assessed.reason !== 'current') {
      throw new Unverified('the new ciphertext is not under the key that it was to go to');
    }
    if (!open) return;
    if (form === 'jws') {
      const { message } = input;
      const { valid } = await this.#client.verify({ jws: found.text, ...(message && { message }) }, this.#call);
      if (!valid) throw new Unverified('the new signature does not verify');
    } else if (form !== 'container') await this.#openOnce(found.text, input.associatedData);
  }

  /** Moved once more and thrown away: the plaintext stays in the agent. */
  async #openOnce(jwe: string, associatedData: Buffer | undefined): Promise<void> {
    await this.#client.reEncrypt(jwe, { ...this.#call, ...(associatedData && { associatedData }) });
  }

  async #reSign({ found, what, to, message }: MoveInput): Promise<NewContent> {
    const { jws } = await this.#client.reSign(found.text, {
      ...this.#call,
      ...(what.sourceKey !== undefined && { sourceKey: what.sourceKey }),
      ...(to !== undefined && { targetKey: to }),
      ...(message !== undefined && { message }),
    });
    return { method: 're-sign', pieces: once(Buffer.from(`${found.around[0]}${jws}${found.around[1]}`)) };
  }

  async #reEncrypt({ path, found, what, to, associatedData }: MoveInput): Promise<NewContent> {
    const keys = {
      ...(what.sourceKey !== undefined && { sourceKey: what.sourceKey }),
      ...(to !== undefined && { targetKey: to }),
      ...(associatedData !== undefined && { associatedData }),
    };
    if (found.form === 'container') {
      const source = createReadStream(path) as AsyncIterable<Buffer>;
      return { method: 're-encrypt', pieces: this.#client.streams.reEncrypt(source, { ...this.#streams, ...keys }) };
    }
    const { jwe } = await this.#client.reEncrypt(found.text, { ...this.#call, ...keys });
    return { method: 're-encrypt', pieces: once(Buffer.from(`${found.around[0]}${jwe}${found.around[1]}`)) };
  }

  async #rewrap({ path, found, what }: MoveInput): Promise<NewContent> {
    const there = new Set(found.keys.map(({ kid }) => kid?.split('/').slice(1).join('/')));
    const add = what.to
      .filter(({ keyId, version }) => !there.has(`${keyId}/${version}`))
      .map(({ keyId }) => ({ key: keyId }));
    const { jwe } = await this.#client.rewrap(found.text, { ...this.#call, add, remove: what.from });
    if (found.form !== 'container') {
      return { method: 'rewrap', pieces: once(Buffer.from(`${found.around[0]}${jwe}${found.around[1]}`)) };
    }
    const head = headOf(jwe);
    if (parseContainerHeader(head.subarray(LEAD_BYTES)) === undefined) throw new Unverified('the new header is none');
    return { method: 'rewrap', pieces: withHead(jwe, path, found.headBytes) };
  }
}
