// How a host comes to its first certificate, and to the next ones. Invariant: the token leaves this host only to a server
// that chains to the root whose hash the token itself carries; a private key never leaves it.

import type { Client } from '@grpc/grpc-js';
import { certificateRequest } from '../../proto/documents/certificate-request.ts';
import { type Credentials, HostsServiceService } from '../../proto/gen/mortise/registry/v1/hosts.ts';
import { AgentError } from '../errors.ts';
import { unary } from './calls.ts';
import { type Address, dial, fetchRoot, secureContext } from './channel.ts';
import {
  forgetPendingKey,
  type Identity,
  type Issued,
  newKeyPair,
  pemOf,
  pendingKeyPair,
  writeAnchor,
  writeIdentity,
} from './identity.ts';
import { Refusal } from './refusal.ts';

// "mortise-enrol-v1.<token id>.<secret>.<SHA-256 of the root's DER>", each part base64url.
const TOKEN = /^mortise-enrol-v1\.[A-Za-z0-9_-]{1,64}\.[A-Za-z0-9_-]{1,128}\.([A-Za-z0-9_-]{43})$/;

const rootHash = (token: string): Buffer => {
  const hash = TOKEN.exec(token)?.[1];
  if (hash === undefined) {
    throw new AgentError('INVALID_REQUEST', {
      message: 'the file does not hold an enrolment token (mortise-enrol-v1…)',
    });
  }
  return Buffer.from(hash, 'base64url');
};

const timeOf = (date: Date | undefined, what: string): number => {
  if (date === undefined) throw new Refusal('INTERNAL', `the registry's answer has no ${what}`);
  return date.getTime();
};

const issuedOf = (credentials: Credentials | undefined, key: string, tenants: readonly string[]): Issued => {
  if (credentials === undefined || credentials.certificateChain.length === 0) {
    throw new Refusal('INTERNAL', "the registry's answer has no certificate");
  }
  const { certificateChain, registryRoots, trustDomain, sealingJwk, cosigner } = credentials;
  return {
    key,
    chain: certificateChain.map(pemOf),
    roots: registryRoots.map(pemOf),
    trustDomain,
    sealingJwk,
    cosigner,
    tenants,
    renewAt: timeOf(credentials.renewTime, 'time to renew'),
  };
};

export interface EnrolInput {
  readonly address: Address;
  readonly dir: string;
  readonly host: string;
  readonly token: string;
  readonly requireHybrid: boolean;
  /** An anchor that this host has already: another one is refused. */
  readonly ownAnchor: Uint8Array | undefined;
}

export interface Enrolled {
  readonly host: string;
  readonly tenants: readonly string[];
  readonly renewAt: number;
}

export const enrol = async (input: EnrolInput): Promise<Enrolled> => {
  const { address, dir, host, token, requireHybrid, ownAnchor } = input;
  const root = await fetchRoot(address, { sha256: rootHash(token), requireHybrid });
  const keys = await pendingKeyPair(dir);
  const client = dial(address, secureContext({ roots: [root], requireHybrid }));
  try {
    const request = { token, certificateRequest: certificateRequest({ name: host, ...keys }) };
    const { kind, name, tenants, credentials } = await unary(client, HostsServiceService.enrol, request);
    if (kind !== 'host' || name !== host) {
      throw new AgentError('INVALID_REQUEST', {
        message: `the token is for the ${kind} ${name}, and this is the host ${host} (MORTISE_HOST_ID)`,
      });
    }
    const anchor = credentials?.trustAnchor ?? new Uint8Array();
    if (ownAnchor !== undefined && !Buffer.from(ownAnchor).equals(anchor)) {
      throw new AgentError('INVALID_REQUEST', {
        message: 'the registry has another trust anchor than this host (MORTISE_TRUST_ANCHOR): nothing was changed',
      });
    }
    const issued = issuedOf(credentials, keys.pem, tenants);
    await writeAnchor(dir, anchor);
    await writeIdentity(dir, issued);
    await forgetPendingKey(dir);
    return { host: name, tenants, renewAt: issued.renewAt };
  } finally {
    client.close();
  }
};

/** A new key and its certificate, stored. What was pinned stays: roots that leave out all pinned ones are refused. */
export const renew = async (
  client: Client,
  options: { readonly dir: string; readonly host: string; readonly present: Identity; readonly signal: AbortSignal },
): Promise<void> => {
  const { dir, host, present, signal } = options;
  const keys = newKeyPair();
  const request = { certificateRequest: certificateRequest({ name: host, ...keys }) };
  const { credentials } = await unary(client, HostsServiceService.renew, request, { signal });
  const issued = issuedOf(credentials, keys.pem, present.tenants);
  const pinned = present.roots.map((pem) => pem.trim());
  if (!issued.roots.some((pem) => pinned.includes(pem.trim()))) {
    throw new Refusal('ROOTS_CHANGED', 'none of the roots that the registry names now was pinned');
  }
  const { trustDomain, sealingJwk, cosigner } = present;
  await writeIdentity(dir, { ...issued, trustDomain, sealingJwk, cosigner });
};
