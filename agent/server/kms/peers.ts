// Who may call the KMS plugin: the API server brings no token, so the kernel's word on its uid and gid decides. Invariant:
// whoever is not in the list is nobody, and is refused and recorded like any caller without credentials.
import { AgentError } from '../../errors.ts';
import type { Caller, Peer } from '../../operations/ports/call.ts';
import type { Authenticate } from '../authentication.ts';

export interface KmsPeers {
  readonly uids: readonly number[];
  readonly gids: readonly number[];
}

export const KMS_PRINCIPAL = 'kubernetes:apiserver';

/** `agent.status` for Status; nothing that manages a key. */
const SCOPES = new Set(['crypto.encrypt', 'crypto.decrypt', 'agent.status'] as const);

export const kmsCallerOf = (tenant: string): Caller => ({
  tenant,
  principal: KMS_PRINCIPAL,
  scopes: SCOPES,
  authenticatedBy: 'peer',
});

export const authenticateKms =
  (parts: {
    readonly tenant: string;
    readonly peers: KmsPeers;
    readonly refused: (event: { code: string; reason: string; peer: Peer }) => void;
  }): Authenticate =>
  async ({ peer }) => {
    const { uids, gids } = parts.peers;
    if (uids.includes(peer.uid) || gids.includes(peer.gid)) return kmsCallerOf(parts.tenant);
    const reason = 'MORTISE_KMS_PEERS names neither the uid nor the gid';
    parts.refused({ code: 'UNAUTHENTICATED', reason, peer });
    throw new AgentError('UNAUTHENTICATED', { cause: new Error(reason) });
  };
