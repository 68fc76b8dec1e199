// Post-quantum signatures with private bytes that are in memory for the time of use. ML-DSA runs in the thread pool of
// node:crypto, SLH-DSA and FN-DSA in worker threads of its own: none holds up the event loop.
import { type KeyObject, sign, verify } from 'node:crypto';
import { promisify } from 'node:util';
import { FN_DSA_SIGNATURES } from '../../../proto/documents/fn-dsa.ts';
import type { PublicJwk } from '../../../proto/documents/key-record.ts';
import {
  akpJwk,
  PQ_SIGNATURES,
  type PqSignature,
  pqPrivateKey,
  pqPublicJwk,
} from '../../../proto/documents/pq-signatures.ts';
import type { Clock } from '../../clock.ts';
import { AgentError } from '../../errors.ts';
import { type Expand, expandOnce } from '../pq-kem.ts';
import type { SlowCall } from './slow-worker.ts';
import { WorkerPool } from './worker-pool.ts';

const signInPool = promisify(sign);
const verifyInPool = promisify(verify);

/** FIPS 204 section 5.2, FIPS 205 section 10.2. */
export const MAX_CONTEXT_BYTES = 255;
const NO_CONTEXT = Buffer.alloc(0);

/** Runs `use` with the private bytes in memory and wipes them afterwards. */
export type WithMaterial = <T>(use: (material: Buffer, held?: { readonly expand: Expand }) => Promise<T>) => Promise<T>;

interface Signed {
  readonly algorithm: string;
  readonly message: Buffer;
  /** Context string; empty where absent. */
  readonly context?: Buffer;
}

const rowOf = (id: string): PqSignature => {
  const row = PQ_SIGNATURES.get(id);
  if (row === undefined) throw new TypeError(`${id} is no post-quantum signature`);
  return row;
};

/** A key as sign and verify take it. OpenSSL takes an empty context for none. */
const withContext = (key: KeyObject, context: Buffer) => (context.length === 0 ? { key } : { key, context });

/** A copy whose memory can be handed to another thread. */
const transferable = (bytes: Uint8Array): Uint8Array<ArrayBuffer> => Uint8Array.from(bytes);

export class PostQuantum {
  readonly #pool: WorkerPool;

  constructor(options: { readonly clock: Clock; readonly pool?: WorkerPool }) {
    this.#pool = options.pool ?? new WorkerPool({ clock: options.clock });
  }

  async sign(
    { algorithm, message, context = NO_CONTEXT }: Signed,
    call: SlowCall,
    withMaterial: WithMaterial,
  ): Promise<Buffer> {
    const row = FN_DSA_SIGNATURES.has(algorithm) ? undefined : rowOf(algorithm);
    if (row?.family === 'ml-dsa') {
      return await withMaterial((material, held) => {
        const key = (held?.expand ?? expandOnce)(row.id, () => pqPrivateKey(row, material));
        return signInPool(null, message, withContext(key, context));
      });
    }
    return await this.#pool.run(call, (ask) =>
      withMaterial(async (material) => {
        const buffers = { material: transferable(material), message: transferable(message) };
        const signature = await ask({ kind: 'sign', algorithm, ...buffers, context: transferable(context) });
        return Buffer.from(signature.buffer);
      }),
    );
  }

  /** A malformed signature is a wrong one. `key` is one of this algorithm. */
  async verify({
    algorithm,
    message,
    context = NO_CONTEXT,
    key,
    signature,
  }: Signed & { readonly key: KeyObject; readonly signature: Buffer }): Promise<boolean> {
    const row = rowOf(algorithm);
    if (key.asymmetricKeyType !== row.id.toLowerCase() || signature.length !== row.signatureBytes) return false;
    try {
      return await verifyInPool(null, message, withContext(key, context), signature);
    } catch {
      return false; // OpenSSL throws on some encodings that cannot be signatures
    }
  }

  /** FN-DSA, of which there are no key objects. A malformed signature or key is a wrong one. */
  async verifyFnDsa(
    what: Pick<Signed, 'algorithm' | 'message'> & { readonly publicKey: Buffer; readonly signature: Buffer },
    call: SlowCall,
  ): Promise<boolean> {
    const { algorithm, message, publicKey, signature } = what;
    const row = FN_DSA_SIGNATURES.get(algorithm);
    if (publicKey.length !== row?.publicBytes || signature.length !== row.signatureBytes) return false;
    const buffers = {
      publicKey: transferable(publicKey),
      message: transferable(message),
      signature: transferable(signature),
    };
    const verdict = await this.#pool.run(call, (ask) => ask({ kind: 'verify', algorithm, ...buffers }));
    return verdict[0] === 1;
  }

  /** The private bytes, which are the caller's to wipe, and the public key of a seed. */
  async derive(
    algorithm: string,
    seed: Buffer,
    call: SlowCall,
  ): Promise<{ readonly material: Buffer; readonly publicJwk: PublicJwk }> {
    const row = PQ_SIGNATURES.get(algorithm);
    const falcon = FN_DSA_SIGNATURES.get(algorithm);
    if (row === undefined && falcon === undefined) {
      throw new AgentError('HSM_UNSUPPORTED', { message: `${algorithm} cannot be held wrapped` });
    }
    const ask = () =>
      this.#pool.run(call, (inWorker) => inWorker({ kind: 'derive', algorithm, seed: transferable(seed) }));
    if (falcon !== undefined) {
      const both = Buffer.from((await ask()).buffer);
      const publicJwk = akpJwk(falcon.jose, both.subarray(falcon.privateBytes));
      return { material: both.subarray(0, falcon.privateBytes), publicJwk };
    }
    const material = row?.family === 'ml-dsa' ? Buffer.from(seed) : Buffer.from((await ask()).buffer);
    return { material, publicJwk: pqPublicJwk(row as PqSignature, material) };
  }

  close(): Promise<void> {
    return this.#pool.close();
  }
}
