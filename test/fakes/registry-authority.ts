// A certificate authority of tests, by the openssl program: a root, a server's certificate, and hosts' from their CSRs.
import { execFile } from 'node:child_process';
import { X509Certificate } from 'node:crypto';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';

const run = promisify(execFile);
const NEW_KEY = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes'];

export interface Authority {
  readonly rootPem: string;
  readonly server: { readonly key: string; readonly chain: string };
  /** PEM of a host's certificate; `seconds` it is good for, in whole days for openssl, checked by the caller's renew time. */
  issue(csr: Uint8Array, host: string): Promise<string>;
  /** A host's key and certificate without a CSR of its own, as another authority would bring. */
  bring(host: string): Promise<{ readonly key: string; readonly certificate: string }>;
}

export const TRUST_DOMAIN = 'registry.test';

export const makeAuthority = async (folder: string): Promise<Authority> => {
  const at = (name: string): string => join(folder, name);
  const openssl = (...args: string[]) => run('openssl', args, { cwd: folder });
  const sign = async (csr: string, extensions: string, out: string): Promise<void> => {
    await writeFile(at(`${out}.ext`), extensions);
    const by = [
      '-CA',
      at('root.pem'),
      '-CAkey',
      at('root.key'),
      '-set_serial',
      `0x${crypto.randomUUID().replace(/-/g, '')}`,
    ];
    await openssl('x509', '-req', '-in', csr, ...by, '-days', '2', '-extfile', at(`${out}.ext`), '-out', at(out));
  };
  await openssl(
    'req',
    '-x509',
    ...NEW_KEY,
    '-subj',
    '/CN=test root',
    '-days',
    '2',
    '-keyout',
    at('root.key'),
    '-out',
    at('root.pem'),
  );
  await openssl(
    'req',
    '-new',
    ...NEW_KEY,
    '-subj',
    '/CN=registry',
    '-keyout',
    at('server.key'),
    '-out',
    at('server.csr'),
  );
  await sign(
    at('server.csr'),
    'subjectAltName=DNS:localhost,IP:127.0.0.1\nextendedKeyUsage=serverAuth\n',
    'server.pem',
  );
  const rootPem = await readFile(at('root.pem'), 'utf8');
  const hostExtensions = (host: string): string =>
    `subjectAltName=URI:spiffe://${TRUST_DOMAIN}/mortise/host/${host}\nextendedKeyUsage=clientAuth\n`;
  let count = 0;
  return {
    rootPem,
    server: {
      key: await readFile(at('server.key'), 'utf8'),
      chain: `${await readFile(at('server.pem'), 'utf8')}${rootPem}`,
    },
    issue: async (csr, host) => {
      count += 1;
      const name = `host-${count}`;
      await writeFile(at(`${name}.der`), csr);
      // Reads and verifies the request: one that is not signed by its own key fails here.
      await openssl('req', '-inform', 'DER', '-verify', '-noout', '-in', at(`${name}.der`));
      await openssl('req', '-inform', 'DER', '-in', at(`${name}.der`), '-out', at(`${name}.csr`));
      await sign(at(`${name}.csr`), hostExtensions(host), `${name}.pem`);
      return readFile(at(`${name}.pem`), 'utf8');
    },
    bring: async (host) => {
      count += 1;
      const name = `brought-${count}`;
      await openssl(
        'req',
        '-new',
        ...NEW_KEY,
        '-subj',
        '/CN=x',
        '-keyout',
        at(`${name}.key`),
        '-out',
        at(`${name}.csr`),
      );
      await sign(at(`${name}.csr`), hostExtensions(host), `${name}.pem`);
      return { key: await readFile(at(`${name}.key`), 'utf8'), certificate: await readFile(at(`${name}.pem`), 'utf8') };
    },
  };
};

export const derOf = (pem: string): Buffer => new X509Certificate(pem).raw;
