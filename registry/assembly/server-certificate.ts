// The registry's own end of TLS: the operator's certificate, or one of the CA that is replaced in good time. Invariant:
// key and certificate fit together, or the ones before stay in use.
import { createPrivateKey, X509Certificate } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { readSecret } from '../../agent/config/secret-file.ts';
import type { Config } from '../config/config.ts';
import type { Authority, ServerCertificate } from '../hosts/authority.ts';

const MAX_KEY_BYTES = 64 * 1024; // PEM

const LIFE_SECONDS = 30 * 86_400;
const LOOK_MS = 6 * 3_600_000;
const REPLACE_BEFORE_MS = 10 * 86_400_000;
const PEM_CERTIFICATES = /-----BEGIN CERTIFICATE-----[\s\S]*?-----END CERTIFICATE-----/g;

export const certificatesIn = (pem: string): readonly string[] => pem.match(PEM_CERTIFICATES) ?? [];

/** PEM certificates of the CAs that hosts may bring certificates of. */
export const readClientRoots = async (path: string | undefined): Promise<readonly string[]> => {
  if (path === undefined) return [];
  const roots = certificatesIn(await readFile(path, 'utf8'));
  if (roots.length === 0) throw new Error(`${path} holds no certificate in PEM`);
  for (const root of roots) if (!new X509Certificate(root).ca) throw new Error(`${path} holds a certificate of no CA`);
  return roots;
};

const readBrought = async (files: { certificateFile: string; keyFile: string }): Promise<ServerCertificate> => {
  const chain = certificatesIn(await readFile(files.certificateFile, 'utf8'));
  if (chain.length === 0) throw new Error(`${files.certificateFile} holds no certificate in PEM`);
  const secret = await readSecret(files.keyFile, MAX_KEY_BYTES);
  try {
    const key = createPrivateKey(secret);
    const own = new X509Certificate(chain[0] as string);
    if (!own.checkPrivateKey(key))
      throw new Error('REGISTRY_TLS_KEY_FILE is not the key of REGISTRY_TLS_CERTIFICATE_FILE');
    const pem = key.export({ format: 'pem', type: 'pkcs8' }).toString();
    return { chain: chain.join('\n'), key: pem, notAfter: Date.parse(own.validTo) };
  } finally {
    secret.fill(0);
  }
};

export const readServerCertificate = async (
  { tls }: Config,
  authority: Authority,
): Promise<ServerCertificate & { readonly brought: boolean }> =>
  tls.brought === undefined
    ? { ...authority.issueServer(tls.names, LIFE_SECONDS), brought: false }
    : { ...(await readBrought(tls.brought)), brought: true };

/** Replaces a certificate of our own CA in good time; answers how to stop. */
export const watchExpiry = (
  notAfter: () => number,
  parts: { readonly now: () => number; readonly replace: () => Promise<void> },
): (() => void) => {
  const timer = setInterval(() => {
    if (notAfter() - parts.now() < REPLACE_BEFORE_MS) void parts.replace();
  }, LOOK_MS);
  timer.unref();
  return () => clearInterval(timer);
};
