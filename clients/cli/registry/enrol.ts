// mortise registry enrol: a token becomes an administrator's certificate. Invariant: the token leaves this machine only to
// a server that shows the root whose hash the token carries.
import { createHash, timingSafeEqual, X509Certificate } from 'node:crypto';
import { once } from 'node:events';
import { connect } from 'node:tls';
import { HostsServiceService } from '../../../proto/gen/mortise/registry/v1/hosts.ts';
import type { Context } from '../context.ts';
import { CliError } from '../exit-codes.ts';
import { readText } from '../files.ts';
import { factsText } from '../output.ts';
import { adminDirOf, callOn, dial, issued, newRequest, type SessionOptions, writeIdentity } from './session.ts';

const TOKEN = /^mortise-enrol-v1\.[A-Za-z0-9_-]{16}\.[A-Za-z0-9_-]{43}\.([A-Za-z0-9_-]{43})$/;
const TOKEN_LIMIT = { bytes: 1024, advice: 'name the file with the token' };
const HANDSHAKE_MS = 10_000;

const splitAddress = (address: string): { host: string; port: number } => {
  const match = /^(?:\[([0-9a-fA-F:]+)\]|([A-Za-z0-9.-]+)):(\d{1,5})$/.exec(address);
  if (match === null) throw new CliError('usage', `not an address: ${address}; expected host:port`);
  return { host: match[1] ?? (match[2] as string), port: Number(match[3]) };
};

/** The root that the server shows, where it is the one with this hash. */
const fetchRoot = async (address: string, hash: Buffer): Promise<string> => {
  const socket = connect({
    ...splitAddress(address),
    rejectUnauthorized: false, // judged below, by the pinned hash
    minVersion: 'TLSv1.3',
    ALPNProtocols: ['h2'],
  });
  try {
    await once(socket, 'secureConnect', { signal: AbortSignal.timeout(HANDSHAKE_MS) });
    let shown = socket.getPeerCertificate(true);
    while (shown.issuerCertificate !== undefined && shown.issuerCertificate !== shown) shown = shown.issuerCertificate;
    if (!timingSafeEqual(createHash('sha256').update(shown.raw).digest(), hash)) {
      throw new CliError('refused', `${address} is not the registry that made the token`);
    }
    return new X509Certificate(shown.raw).toString();
  } catch (cause) {
    if (cause instanceof CliError) throw cause;
    throw new CliError('retryable', `cannot connect to ${address}: ${(cause as Error).message}`, cause);
  } finally {
    socket.on('error', () => undefined).destroy(); // what comes after the answer is known is of no interest
  }
};

export interface EnrolOptions extends SessionOptions {
  readonly enrolmentToken: string;
}

export const enrol = async (context: Context, options: EnrolOptions): Promise<void> => {
  const { io } = context;
  const address = options.registry ?? io.env['MORTISE_REGISTRY'];
  if (!address) throw new CliError('usage', 'name the registry with --registry host:port or $MORTISE_REGISTRY');
  const token = await readText(io, options.enrolmentToken, TOKEN_LIMIT);
  const hash = TOKEN.exec(token)?.[1];
  if (hash === undefined) throw new CliError('usage', `${options.enrolmentToken} does not hold an enrolment token`);
  const root = await fetchRoot(address, Buffer.from(hash, 'base64url'));
  const { key, request } = newRequest('administrator');
  const client = dial(address, { roots: [root] });
  try {
    const target = { client, address, signal: io.signal };
    const answer = await callOn(target, HostsServiceService.enrol, { token, certificateRequest: request });
    if (answer.kind !== 'admin') {
      throw new CliError(
        'failure',
        `the token was for the host ${answer.name}, and is used up now; make it another one`,
      );
    }
    const dir = adminDirOf(context, options);
    await writeIdentity(dir, { name: answer.name, address, key, ...issued(answer.credentials, key) });
    const facts = { administrator: answer.name, registry: address, credentials: dir };
    const expires = answer.credentials?.expireTime;
    await context.print({
      text: factsText([...Object.entries(facts), ['expires', expires]]),
      json: { ...facts, expireTime: expires },
    });
  } finally {
    client.close();
  }
};
