// EncryptGeneral: a General JSON JWE for several recipients. Only what concerns the content is protected, so that the
// recipients can change later (Rewrap).
import { associatedDataMembers } from '../crypto/associated-data.ts';
import { DEFAULT_ENC, encryptContent } from '../crypto/content-encryption.ts';
import { buildContentHeader, buildGeneralJwe } from '../crypto/general-jwe.ts';
import { invalid } from '../errors.ts';
import { MAX_ASSOCIATED_DATA_BYTES, MAX_DATA_BYTES, requireSize } from './jose/checks.ts';
import {
  type KeyUsed,
  keysUsed,
  noteTargets,
  type RecipientInput,
  settled,
  type Target,
  takeTargets,
  targetHeader,
  wrapForTarget,
} from './jose/targets.ts';
import { type Performed, type Ports, perform, type Run } from './perform.ts';
import type { Call } from './ports/call.ts';

export interface EncryptGeneralInput {
  readonly recipients: readonly RecipientInput[];
  readonly plaintext: Buffer;
  readonly associatedData: Buffer;
}

export interface EncryptGeneralOutput {
  readonly jwe: string;
  readonly keysUsed: readonly KeyUsed[];
}

const seal = async (
  ports: Ports,
  run: Run,
  targets: readonly Target[],
  { plaintext, associatedData }: EncryptGeneralInput,
): Promise<string> => {
  const { cekBytes, ivBytes, name } = DEFAULT_ENC;
  const bytes = await ports.random.take(cekBytes + ivBytes);
  const cek = bytes.subarray(0, cekBytes);
  try {
    const protectedSegment = buildContentHeader(name, associatedDataMembers(associatedData));
    const sealed = encryptContent({ cek, iv: bytes.subarray(cekBytes), aad: protectedSegment, plaintext });
    const recipients = await settled(
      targets.map(async (target) => {
        const wrapped = await wrapForTarget(ports, run, target, { cek, enc: name });
        return { header: targetHeader(target, wrapped), encryptedKey: wrapped.encryptedKey };
      }),
    );
    return buildGeneralJwe({ protectedSegment, ...sealed }, recipients);
  } finally {
    cek.fill(0);
  }
};

export const encryptGeneral = (
  ports: Ports,
  call: Call,
  input: EncryptGeneralInput,
): Promise<Performed<EncryptGeneralOutput>> =>
  perform(ports, call, 'encrypt-general', async (run) => {
    requireSize('plaintext', input.plaintext.length, MAX_DATA_BYTES);
    requireSize('associated_data', input.associatedData.length, MAX_ASSOCIATED_DATA_BYTES);
    if (input.recipients.length === 0) throw invalid('recipients', 'at least one is required');
    const targets = await takeTargets(ports, run, input.recipients, { field: 'recipients' });
    const first = targets[0] as Target;
    if (first.kind === 'jwk') run.about({ requested: first.jwk.thumbprint, algorithm: first.alg });
    noteTargets(run, targets);
    return { jwe: await seal(ports, run, targets, input), keysUsed: keysUsed(targets) };
  });
