// Maps a peer to the principal that the policy gives its uid or, failing that, its primary gid. Never by pid, which
// the kernel hands out again.
import { SCOPES } from '../../proto/documents/operations.ts';
import { type Identity, type Peer, scopesOf, type Workload } from './types.ts';

export const identityOfPeer = (workloads: readonly Workload[], peer: Peer): Identity | undefined => {
  const row =
    workloads.find(({ uid }) => uid !== undefined && uid === peer.uid) ??
    workloads.find(({ uid, gid }) => uid === undefined && gid !== undefined && gid === peer.gid);
  if (row === undefined) return undefined;
  const { tenant, principal } = row;
  return { tenant, principal, scopes: scopesOf(row.scopes, SCOPES, tenant), authenticatedBy: 'peer' };
};
