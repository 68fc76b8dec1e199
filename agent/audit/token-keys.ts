// The two keys of the audit log in the token, found by label or made at the first start: `audit-wrap` (AES-256) wraps
// MAC keys, `checkpoint` (Ed25519, or EC P-256 where the token has no Ed25519) signs checkpoints.
import { createHash, randomBytes } from 'node:crypto';
import type { PublicJwk } from '../../proto/documents/key-record.ts';
import { AgentError } from '../errors.ts';
import type { AuditToken } from './types.ts';

type Call = { readonly tenant: string; readonly deadline: number; readonly signal: AbortSignal };
type Found = { readonly tokenId: string; readonly publicJwk?: PublicJwk };

/** What of the token is needed. */
export interface TokenForAudit {
  canHold(algorithm: string, purpose: 'encrypt' | 'sign'): { readonly ok: boolean };
  find(label: string, call: Call): Promise<Found | undefined>;
  generate(
    what: { readonly algorithm: string; readonly purpose: 'encrypt' | 'sign'; readonly label: string },
    call: Call,
  ): Promise<Found>;
  gcmEncrypt(tokenId: string, input: { iv: Buffer; aad: Buffer; data: Buffer }, call: Call): Promise<Buffer>;
  gcmDecrypt(tokenId: string, input: { iv: Buffer; aad: Buffer; data: Buffer }, call: Call): Promise<Buffer>;
  sign(tokenId: string, jose: string, data: Buffer, call: Call): Promise<Buffer>;
}

const IV_BYTES = 12; // random: one wrap for each start of the agent stays far below 2^32 (SP 800-38D section 8.3)
const CALL_MS = 10_000;

export const openTokenKeys = async (options: {
  readonly token: TokenForAudit;
  readonly host: string;
  readonly now: () => number;
}): Promise<AuditToken> => {
  const { token, host, now } = options;
  const call = (): Call => ({
    tenant: '_platform',
    deadline: now() + CALL_MS,
    signal: AbortSignal.timeout(CALL_MS),
  });
  const label = (use: string): string => `mortise:agent:${host}:${use}`;
  const open = async (use: string, algorithm: string, purpose: 'encrypt' | 'sign'): Promise<Found> =>
    (await token.find(label(use), call())) ?? (await token.generate({ algorithm, purpose, label: label(use) }, call()));

  const wrap = await open('audit-wrap', 'AES-256', 'encrypt');
  const checkpoint = await open('checkpoint', token.canHold('Ed25519', 'sign').ok ? 'Ed25519' : 'EC-P256', 'sign');
  const { publicJwk } = checkpoint;
  if (publicJwk === undefined) {
    throw new AgentError('HSM_UNAVAILABLE', {
      message: 'the token does not give the public half of the checkpoint key',
    });
  }
  return {
    publicJwk,
    wrap: async (data, aad) => {
      const iv = randomBytes(IV_BYTES);
      return Buffer.concat([iv, await token.gcmEncrypt(wrap.tokenId, { iv, aad, data }, call())]);
    },
    unwrap: (wrapped, aad) => {
      const [iv, data] = [wrapped.subarray(0, IV_BYTES), wrapped.subarray(IV_BYTES)];
      return token.gcmDecrypt(wrap.tokenId, { iv, aad, data }, call());
    },
    sign: (data) =>
      publicJwk['kty'] === 'OKP'
        ? token.sign(checkpoint.tokenId, 'Ed25519', data, call())
        : token.sign(checkpoint.tokenId, 'ES256', createHash('sha256').update(data).digest(), call()),
  };
};
