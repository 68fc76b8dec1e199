// The two keys of the audit log in the token, found by label or made at the first start: `audit-wrap` wraps MAC keys,
// `checkpoint` signs checkpoints: Ed25519, EC P-256 where the token has none, RSA where it has neither.
import { createHash } from 'node:crypto';
import type { PublicJwk } from '../../proto/documents/key-record.ts';
import { AgentError } from '../errors.ts';
import type { AuditToken } from './types.ts';

type Call = { readonly tenant: string; readonly deadline: number; readonly signal: AbortSignal };
type Found = { readonly tokenId: string; readonly publicJwk?: PublicJwk };

/** What of the token is needed. */
export interface TokenForAudit {
  canHold(algorithm: string, purpose: 'sign'): { readonly ok: true } | { readonly ok: false; readonly why: string };
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
const GENERATE_MS = 60_000; // RSA in a slow token; once in the life of a host
/** The best first. */
const CHECKPOINT_ALGORITHMS = ['Ed25519', 'EC-P256', 'RSA-3072'];

const checkpointAlgorithm = (token: TokenForAudit): string => {
  const lacks: string[] = [];
  for (const algorithm of CHECKPOINT_ALGORITHMS) {
    const can = token.canHold(algorithm, 'sign');
    if (can.ok) return algorithm;
    lacks.push(`${algorithm}: ${can.why}`);
  }
  throw new AgentError('HSM_UNSUPPORTED', {
    message: `the token can hold no key to sign checkpoints with: ${lacks.join('; ')}`,
  });
};

export const openTokenKeys = async (options: {
  readonly token: TokenForAudit;
  readonly host: string;
  readonly now: () => number;
}): Promise<AuditToken> => {
  const { token, host, now } = options;
  const call = (ms = CALL_MS): Call => ({
    tenant: '_platform',
    deadline: now() + ms,
    signal: AbortSignal.timeout(ms),
  });
  const label = (use: string): string => `mortise:agent:${host}:${use}`;
  const open = async (use: string, make: (label: string) => Promise<Found>): Promise<Found> =>
    (await token.find(label(use), call())) ?? (await make(label(use)));

  const wrap = await open('audit-wrap', (name) => token.generateWrappingKey({ label: name }, call()));
  const checkpoint = await open('checkpoint', (name) =>
    token.generate({ algorithm: checkpointAlgorithm(token), purpose: 'sign', label: name }, call(GENERATE_MS)),
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
    sign: (data) => {
      if (publicJwk['kty'] === 'OKP') return token.sign(checkpoint.tokenId, 'Ed25519', data, call());
      const jose = publicJwk['kty'] === 'RSA' ? 'PS256' : 'ES256';
      return token.sign(checkpoint.tokenId, jose, createHash('sha256').update(data).digest(), call());
    },
  };
};
