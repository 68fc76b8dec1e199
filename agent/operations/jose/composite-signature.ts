// Signs and verifies composites with a key of the catalogue: each half in the token, or with unwrapped private bytes. Invariant: the keys of the halves sign nothing but message representatives.

import { judgeHalves } from '../../../proto/documents/composite-verification.ts';
import type { KeyRecord, KeyVersionRecord, PublicJwk } from '../../../proto/documents/key-record.ts';
import {
  asSpelled,
  COMPOSITE_SIGNATURES,
  type CompositeSignature,
  classicalInput,
  joinHalves,
  labelContext,
  messageRepresentative,
  readCompositeKey,
  splitHalves,
  verifyClassical,
} from '../../crypto/composite-signature.ts';
import { signEd25519 } from '../../crypto/ed25519.ts';
import type { Ports, Run } from '../perform.ts';
import { tokenIdOf } from './named-key.ts';
import { withSeed } from './private-half.ts';

const compositeOf = (jose: string): CompositeSignature => {
  const composite = COMPOSITE_SIGNATURES.get(jose);
  if (composite === undefined) throw new TypeError(`${jose} is no composite signature`);
  return composite;
};

const publicBytes = (jwk: PublicJwk): Buffer => Buffer.from(jwk['pub'] ?? '', 'base64url');

interface Holder {
  readonly key: KeyRecord;
  readonly version: KeyVersionRecord;
}

/** In the token, or with the seed that stands behind the ML-DSA one in the blob. */
const signClassical = async (
  ports: Ports,
  run: Run,
  holder: Holder,
  composite: CompositeSignature,
  representative: Buffer,
): Promise<Buffer> => {
  const { version } = holder;
  const input = classicalInput(composite, representative);
  if (version.custody !== 'wrapped')
    return await ports.token.sign(tokenIdOf(version), composite.classical, input, run.token);
  const { privateBytes } = composite.pqc;
  return await withSeed(ports, run, holder, (seed) => signEd25519(seed.subarray(privateBytes), input));
};

const signPostQuantum = (
  ports: Ports,
  run: Run,
  holder: Holder,
  composite: CompositeSignature,
  message: Buffer,
): Promise<Buffer> => {
  const { version } = holder;
  const { id: algorithm, privateBytes } = composite.pqc;
  const context = labelContext(composite);
  if (version.custody === 'hsm') return ports.token.sign(tokenIdOf(version), algorithm, message, run.token, context);
  return ports.postQuantum.sign({ algorithm, message, context }, run.token, (use) =>
    withSeed(ports, run, holder, (seed, held) => use(seed.subarray(0, privateBytes), held)),
  );
};

interface PreHashed {
  readonly digest: Buffer;
  /** Context string of the application; undefined means none. */
  readonly context: Buffer | undefined;
}

/** The signature of a message by its pre-hash. */
export const signComposite = async (
  ports: Ports,
  run: Run,
  holder: Holder,
  { digest, context }: PreHashed,
): Promise<Buffer> => {
  const { version } = holder;
  const composite = compositeOf(version.jose);
  const publicKey = readCompositeKey(composite, publicBytes(version.publicJwk ?? {}));
  if (publicKey === undefined) throw new TypeError(`version ${version.version} has no composite public key`);
  const message = messageRepresentative(composite, digest, context);
  const classical = await signClassical(ports, run, holder, composite, message);
  const pqc = await signPostQuantum(ports, run, holder, composite, message);
  return joinHalves(composite, publicKey.encoding, { pqc, classical });
};

/** Whether policy takes the signature for right; where it does with one half wrong, that is warned of and recorded. */
export const checkComposite = async (
  ports: Ports,
  run: Run,
  { jose, jwk, asLamps }: { readonly jose: string; readonly jwk: PublicJwk; readonly asLamps?: true },
  { digest, context, signature }: PreHashed & { readonly signature: Buffer },
): Promise<boolean> => {
  const composite = compositeOf(jose);
  const key = readCompositeKey(composite, publicBytes(jwk));
  const halves = splitHalves(composite, signature);
  if (key === undefined || halves === undefined) return false;
  const message = messageRepresentative(composite, digest, context);
  const pqc = await ports.postQuantum.verify({
    algorithm: composite.pqc.id,
    key: key.pqc,
    message,
    context: labelContext(composite),
    signature: halves.pqc,
  });
  const by = asLamps ? asSpelled(composite, key, halves.classical) : key;
  const right = { pqc, classical: verifyClassical(composite, by, message, halves.classical) };
  const verdict = judgeHalves(ports.policy.compositeVerification(run.tenant), right);
  if (verdict !== 'partial') return verdict === 'right';
  const wrong = right.pqc ? 'classical' : 'post-quantum';
  run.note({ compositeHalves: right });
  run.warn({ code: 'COMPOSITE_PARTIAL', message: `the ${wrong} half of the signature is wrong; policy lets it pass` });
  return true;
};
