// Secrets that the token agrees on or decapsulates. They leave it, because the KDFs and combiners of the formats are the
// agent's; invariant: the object that a secret is read from is a session object, and gone before the answer.
import { ML_KEM_SECRET_BYTES } from '../../../proto/documents/ml-kem.ts';
import type { Handle } from './arguments.ts';
import { isOnCurve } from './curves.ts';
import { ecdh1, mlKem } from './mechanisms.ts';
import type { Session } from './objects.ts';
import { needUse, type Performer, room } from './performer.ts';
import { Refusal } from './refusal.ts';
import { A, agreedSecret } from './templates.ts';

/**
 * The value of a secret that the token has just made as a session object to be read, at full length with leading zeros
 * (SP 800-56A section 5.7.1.2); the object is destroyed. Not a small buffer of its own, which V8 moves.
 */
const readSecret = ({ session, scratch }: Performer, made: Handle, bytes: number): Buffer => {
  const secret = readMade(session, made, bytes);
  const full = room(scratch, bytes).fill(0);
  secret.copy(full, full.length - secret.length);
  secret.fill(0);
  return full;
};

/** The value of such an object, of at most so many bytes, in the memory that pkcs11js gave it: to be wiped by the caller. */
export const readMade = ({ module, handle }: Session, made: Handle, bytes: number): Buffer => {
  try {
    for (const [type, value] of [
      [A.TOKEN, 0],
      [A.SENSITIVE, 0],
      [A.EXTRACTABLE, 1],
    ] as const) {
      if (module.attribute(handle, made, type)?.[0] !== value) {
        throw new Refusal('HSM_UNSUPPORTED', 'the token made the secret with other attributes');
      }
    }
    const secret = module.attribute(handle, made, A.VALUE);
    if (secret === undefined || secret.length === 0 || secret.length > bytes) {
      secret?.fill(0);
      throw new Refusal('HSM_UNSUPPORTED', 'the token does not give the secret');
    }
    return secret;
  } finally {
    module.destroyObject(handle, made);
  }
};

export const ecdh = (performer: Performer, fields: readonly Buffer[]): Buffer => {
  const [id, point] = fields as [Buffer, Buffer];
  const { session, keys } = performer;
  const { module, handle } = session;
  return keys.use(session, id, 'ec', (key) => {
    needUse(key, 'ec', A.DERIVE, 'key agreement');
    const curve = key.curve;
    if (curve === undefined || !isOnCurve(curve, point)) {
      throw new Refusal('INVALID_CIPHERTEXT', 'the point is not on the curve of the key');
    }
    const made = module.deriveKey(handle, ecdh1(point), key.handle, agreedSecret(curve.bytes));
    return readSecret(performer, made, curve.bytes);
  });
};

/** A wrong ciphertext of the right length gives a secret that nobody knows (FIPS 203 section 6.3), which is no failure. */
export const decapsulate = (performer: Performer, fields: readonly Buffer[]): Buffer => {
  const [id, ciphertext] = fields as [Buffer, Buffer];
  const { session, keys } = performer;
  return keys.use(session, id, 'ml-kem', (key) => {
    needUse(key, 'ml-kem', A.DECAPSULATE, 'decapsulation');
    if (ciphertext.length !== key.set?.outputBytes) {
      throw new Refusal('INVALID_CIPHERTEXT', 'not a ciphertext of this parameter set');
    }
    const { module, handle } = session;
    const made = module.decapsulateKey(handle, mlKem, key.handle, ciphertext, agreedSecret(ML_KEM_SECRET_BYTES));
    return readSecret(performer, made, ML_KEM_SECRET_BYTES);
  });
};
