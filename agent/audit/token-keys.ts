// The two keys of the audit log in the token, found by label or made at the first start: `audit-wrap` wraps MAC keys,
// `checkpoint` (Ed25519, or EC P-256 where the token has no Ed25519) signs checkpoints.
import { createHash } from 'node:crypto';
import type { PublicJwk } from '../../proto/documents/key-record.ts';
import { AgentError } from '../errors.ts';
import type { AuditToken } from './types.ts';

type Call = { readonly tenant: string; readonly deadline: number; readonly signal: AbortSignal };
type Found = { readonly tokenId: string; readonly publicJwk?: PublicJwk };

/** What of the token is needed. */
export interface TokenForAudit {
  canHold(algorithm: string, purpose: 'sign'): { readonly ok: boolean };
  find(label: string, call: Call): Promise<Found | undefined>;
  generate(
    what: { readonly algorithm: string; readonly purpose: 'sign'; readonly label: string },
    call: Call,
  ): Promise<Found>;
  generateWrappingKey(what: { readonly label: string }, call: Call): Promise<Found>;
  wrap(tokenId: string, input: { aad: Buffer; data: Buffer }, call: Call): Promise<Buffer>;
  unwrap(tokenId: string, input: { aad: Buffer; data: Buffer }, call: Call): Promise<Buffer>;
  sign(tokenId: string, jose: string, data: Buffer, call: Call): Promise<Buffer>;
}

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
  const open = async (use: string, make: (label: string) => Promise<Found>): Promise<Found> =>
    (await token.find(label(use), call())) ?? (await make(label(use)));

  const wrap = await open('audit-wrap', (name) => token.generateWrappingKey({ label: name }, call()));
  const algorithm = token.canHold('Ed25519', 'sign').ok ? 'Ed25519' : 'EC-P256';
  const checkpoint = await open('checkpoint', (name) =>
    token.generate({ algorithm, purpose: 'sign', label: name }, call()),
  );
  const { publicJwk } = checkpoint;
  if (publicJwk === undefined) {
    throw new AgentError('HSM_UNAVAILABLE', {
      message: 'the token does not give the public half of the checkpoint key',
    });
  }
  return {
    publicJwk,
    wrap: (data, aad) => token.wrap(wrap.tokenId, { aad, data }, call()),
    unwrap: (data, aad) => token.unwrap(wrap.tokenId, { aad, data }, call()),
    sign: (data) =>
      publicJwk['kty'] === 'OKP'
        ? token.sign(checkpoint.tokenId, 'Ed25519', data, call())
        : token.sign(checkpoint.tokenId, 'ES256', createHash('sha256').update(data).digest(), call()),
  };
};
