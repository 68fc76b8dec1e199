// From credentials to a caller: bearer token, peer, or both. Invariants: a token that is presented must be good, the
// peer never stands in for a bad one; where both speak they speak for one tenant, and the token names the principal
// and the scopes; exp, nbf and revocation are judged on every call, cached or not.
import type { Clock } from '../clock.ts';
import { AgentError, asAgentError } from '../errors.ts';
import { createJwtVerifier, type VerifiedToken } from './jwt.ts';
import type { ReplayMemory } from './replay.ts';
import { TokenBucket } from './token-bucket.ts';
import { createTokenCache, tokenDigest } from './token-cache.ts';
import type { Identity, IdentityEvents, IdentityPolicy, Peer } from './types.ts';
import { identityOfPeer } from './workloads.ts';

const BEARER = /^bearer ([^ ]+)$/i; // RFC 6750 section 2.1
const FAILURES = { perSecond: 10, burst: 500 }; // signature checks that a uid may waste before it has to wait
const MAX_UIDS = 1024;

export interface Credentials {
  readonly peer: Peer;
  /** Every value of the `authorization` metadata. */
  readonly authorization: readonly string[];
}

export interface Authenticator {
  /**
   * At once where a cached token or the peer says it all, else a promise, which may reject with UNAUTHENTICATED,
   * TOKEN_EXPIRED, TOKEN_REPLAYED, RATE_LIMITED or STORE_UNAVAILABLE.
   */
  authenticate(credentials: Credentials): Identity | Promise<Identity>;
  /** To be called when a policy comes into force. */
  policyChanged(): void;
}

const refuse = (reason: string): AgentError => new AgentError('UNAUTHENTICATED', { cause: new Error(reason) });

interface Bearer {
  readonly token: string;
  readonly digest: string;
}

const readBearer = (authorization: readonly string[]): Bearer => {
  const token = authorization.length === 1 ? BEARER.exec(authorization[0] as string)?.[1] : undefined;
  if (token === undefined) throw refuse('authorization is not one bearer token');
  return { token, digest: tokenDigest(token) };
};

export const createAuthenticator = (parts: {
  readonly policy: IdentityPolicy;
  readonly replay: Pick<ReplayMemory, 'take'>;
  readonly clock: Clock;
  readonly events: IdentityEvents;
}): Authenticator => {
  const { policy, clock } = parts;
  const verifier = createJwtVerifier({ clock });
  const cache = createTokenCache({ clock });
  const failures = new Map<number, TokenBucket>();
  let generation = 0; // of the policy: what was verified under an older one must not enter the cache
  const revoked = new WeakMap<readonly string[], ReadonlySet<string>>();
  /** Of metadata that comes with call after call, as a pipeline's does; kept as long as the stream keeps it. */
  const bearers = new WeakMap<readonly string[], Bearer>();

  const bearerOf = (authorization: readonly string[]): Bearer | undefined => {
    if (authorization.length === 0) return undefined;
    const bearer = bearers.get(authorization) ?? readBearer(authorization);
    bearers.set(authorization, bearer);
    return bearer;
  };

  const isRevoked = ({ id, principal, tenant }: VerifiedToken): boolean => {
    const list = policy.revokedTokens(tenant);
    const set = revoked.get(list) ?? new Set(list);
    revoked.set(list, set);
    return set.has(`sub:${principal}`) || (id !== undefined && set.has(id));
  };

  /** What changes while a token lives. */
  const judge = (verified: VerifiedToken): void => {
    const now = clock.now();
    if (now >= verified.expiresAt) throw new AgentError('TOKEN_EXPIRED');
    if (now < verified.notBefore) throw refuse('nbf has not come');
    if (isRevoked(verified)) throw refuse('the token or its subject is revoked');
  };

  const bucketOf = (uid: number): TokenBucket => {
    const [oldest] = failures.size >= MAX_UIDS && !failures.has(uid) ? failures.keys() : [];
    if (oldest !== undefined) failures.delete(oldest);
    const bucket = failures.get(uid) ?? new TokenBucket(FAILURES, clock.now());
    failures.set(uid, bucket);
    return bucket;
  };

  /** Verifying costs more than sending: a uid that keeps failing has to wait. Cached tokens are not touched by it. */
  const verifyAnew = async (token: string, uid: number): Promise<VerifiedToken> => {
    const bucket = bucketOf(uid);
    const retryAfterMs = bucket.take(FAILURES, clock.now());
    if (retryAfterMs > 0) throw new AgentError('RATE_LIMITED', { message: 'too many refused tokens', retryAfterMs });
    const verified = await verifier.verify(token, policy.issuers());
    bucket.give(FAILURES);
    return verified;
  };

  const identityOf = (verified: VerifiedToken): Identity => {
    const { tenant, principal, scopes } = verified;
    return { tenant, principal, scopes, authenticatedBy: 'jwt', stands: () => judge(verified) };
  };

  const identityOfToken = async ({ token, digest }: Bearer, uid: number): Promise<Identity> => {
    const began = generation;
    const cached = cache.get(digest);
    const verified = cached ?? (await verifyAnew(token, uid));
    judge(verified);
    if (verified.singleUse) {
      const { issuer, id = '', expiresAt } = verified;
      if (!(await parts.replay.take({ issuer, id, expiresAt }))) throw new AgentError('TOKEN_REPLAYED');
    } else if (cached === undefined && began === generation)
      cache.put(digest, verified, policy.tokenCacheSeconds(verified.tenant));
    return identityOf(verified);
  };

  /** Undefined where something has to be waited for. */
  const identityAtOnce = ({ digest }: Bearer): Identity | undefined => {
    const verified = cache.get(digest);
    if (verified === undefined || verified.singleUse) return undefined;
    judge(verified);
    return identityOf(verified);
  };

  const servedHere = (identity: Identity): Identity => {
    if (policy.serves(identity.tenant)) return identity;
    const message = 'this host was not enrolled for this tenant';
    throw new AgentError('POLICY_DENIED', { message, metadata: { rule: 'host.tenants' } });
  };

  const agreed = (byPeer: Identity | undefined, byToken: Identity): Identity => {
    if (byPeer !== undefined && byPeer.tenant !== byToken.tenant) throw refuse('token and peer speak for two tenants');
    return servedHere(byToken);
  };

  const identityFor = ({ peer, authorization }: Credentials): Identity | Promise<Identity> => {
    const bearer = bearerOf(authorization);
    const byPeer = identityOfPeer(policy.workloads(), peer);
    if (bearer === undefined) {
      if (byPeer === undefined) throw refuse('no bearer token, and the policy maps neither uid nor gid');
      return servedHere(byPeer);
    }
    const byToken = identityAtOnce(bearer);
    if (byToken !== undefined) return agreed(byPeer, byToken);
    return identityOfToken(bearer, peer.uid).then((identity) => agreed(byPeer, identity));
  };

  const refused = (thrown: unknown, peer: Peer): Promise<never> => {
    const error = asAgentError(thrown);
    const reason = error.cause instanceof Error ? error.cause.message : error.message;
    parts.events.refused({ code: error.code, reason, peer });
    return Promise.reject(error);
  };

  return {
    authenticate: (credentials) => {
      try {
        const identity = identityFor(credentials);
        return identity instanceof Promise ? identity.catch((thrown) => refused(thrown, credentials.peer)) : identity;
      } catch (thrown) {
        return refused(thrown, credentials.peer);
      }
    },
    policyChanged: () => {
      generation += 1;
      cache.clear();
    },
  };
};
