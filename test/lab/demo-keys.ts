// The first act: policies, identities, keys, and what they do to data.
import { generateKeyPairSync } from 'node:crypto';
import { appendFileSync, copyFileSync, existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createLocalJWKSet, flattenedVerify } from 'jose';
import type { Key } from '../../clients/typescript/index.ts';
import type { Demo } from './demo.ts';
import { ROOT, type Role, type Tenant } from './lab.ts';
import { answerOf, prove } from './script.ts';

/** A principal of a tenant, by its token file. */
export const principal = ({ lab }: Demo, tenant: Tenant, role: Role) => ({
  tokenFile: lab.tokenFile(tenant, role),
  name: `${role}@${tenant}`,
});

const policyStep = async ({ script, lab }: Demo): Promise<string> => {
  const files = ['platform.json', 'tenants/acme.json', 'tenants/globex.json'].map((name) => join(lab.policyDir, name));
  const anchor = join(lab.policyDir, 'trust-anchor.json');
  const args = ['policy', 'verify', ...files, '--anchor', anchor, '--platform', files[0] as string];
  const { policies } = answerOf<{
    policies: { officers: string[]; threshold: number; signatures: { algorithm: string; verdict: string }[] }[];
  }>(await script.mortise(args, 0));
  prove(policies.length === 3, 'there are three policies');
  for (const { officers, threshold, signatures } of policies) {
    prove(threshold === 2 && officers.length === 2, 'two of three officers signed');
    prove(
      signatures.every(({ verdict }) => verdict === 'valid'),
      'every signature is valid',
    );
    prove(signatures.filter(({ algorithm }) => algorithm === 'ML-DSA-65').length === 2, 'each also with ML-DSA-65');
  }
  return 'platform and tenants’ policies carry two officers’ Ed25519 and ML-DSA-65 signatures; tenants only narrow';
};

const wideningStep = async ({ script, lab, desk }: Demo): Promise<string> => {
  const policies = join(lab.folder, 'policies');
  const draft = JSON.parse(readFileSync(join(policies, 'drafts/tenants/globex.json'), 'utf8')) as object;
  const wide = { ...draft, version: 2, rateLimits: { operationsPerSecond: 999_999, burst: 999_999 } };
  writeFileSync(join(desk, 'wide.json'), JSON.stringify(wide));
  const officer = join(policies, 'officers/alice.keys.json');
  const args = ['policy', 'sign', 'wide.json', '--dir', policies, '--out', 'wide.signed.json', '--officer', officer];
  const refused = await script.mortise(args, 3);
  const { widenings } = answerOf<{ widenings: { path: string; platform: string; tenant: string }[] }>(refused);
  for (const { path, platform, tenant } of widenings) script.see(`${path}: platform ${platform}, here ${tenant}`);
  prove(widenings.length === 2 && !existsSync(join(desk, 'wide.signed.json')), 'nothing was signed');
  return 'a tenant policy that would allow more than the platform is not even signed, and each place is named';
};

const identityStep = async (demo: Demo): Promise<string> => {
  const seen: string[] = [];
  for (const tenant of ['acme', 'globex'] as const) {
    const me = answerOf<{ tenant: string; principal: string }>(
      await demo.script.mortise(['whoami'], 0, principal(demo, tenant, 'app')),
    );
    demo.script.see(`tenant ${me.tenant}, principal ${me.principal}`);
    seen.push(me.tenant);
  }
  prove(seen.join() === 'acme,globex', 'each token leads to its own tenant');
  return 'the tenant comes from the verified token; no request can name another';
};

const createStep = async (demo: Demo): Promise<string> => {
  const admin = principal(demo, 'acme', 'admin');
  for (const [id, purpose, expected] of [
    ['orders', 'encrypt', 'AES-256'],
    ['invoices', 'sign', 'EC-P256'],
    ['cookies', 'mac', 'HMAC-SHA256'],
  ] as const) {
    const { key } = answerOf<{ key: Key }>(
      await demo.script.mortise(['key', 'create', id, '--purpose', purpose], 0, admin),
    );
    const [version] = key.versions;
    demo.script.see(`${id}: ${version?.algorithm}, custody ${version?.custody}`);
    prove(version?.algorithm === expected && version.custody === 'hsm', `${id} is ${expected} in the token`);
  }
  return 'the purpose picks the algorithm by policy, and the keys were generated in the token';
};

const encryptStep = async (demo: Demo): Promise<string> => {
  const { script, desk } = demo;
  const app = principal(demo, 'acme', 'app');
  copyFileSync(join(ROOT, 'LICENSE'), join(desk, 'report.txt'));
  writeFileSync(join(desk, 'context'), 'order 17');
  const context = ['--aad-file', 'context'];
  await script.mortise(['encrypt', '--key', 'orders', 'report.txt', ...context, '--out', 'report.jwe'], 0, app);
  await script.mortise(['decrypt', 'report.jwe', ...context, '--out', 'opened.txt'], 0, app);
  const [plain, opened] = ['report.txt', 'opened.txt'].map((name) => readFileSync(join(desk, name)));
  prove(opened?.equals(plain as Buffer) === true, 'the file came back byte for byte');
  const jwe = readFileSync(join(desk, 'report.jwe'), 'utf8');
  const header = Buffer.from(jwe.split('.')[0] as string, 'base64url').toString();
  script.see(`${plain?.length} bytes; JWE header ${header}`);
  prove(header.includes('"kid":"acme/orders/1"'), 'the header names the key version');
  await script.mortise(['decrypt', 'report.jwe', '--out', 'without-context.txt'], 1, app);
  prove(!existsSync(join(desk, 'without-context.txt')), 'a failure leaves no file');
  return 'a real file survives encryption and decryption; without its associated data it does not open';
};

const signStep = async (demo: Demo): Promise<string> => {
  const { script, desk } = demo;
  const app = principal(demo, 'acme', 'app');
  const args = ['sign', '--key', 'invoices', '--form', 'jws-detached', 'report.txt', '--out', 'report.jws'];
  await script.mortise(args, 0, app);
  await script.mortise(['verify', 'report.jws', '--message', 'report.txt'], 0, app);
  const { publicKey } = answerOf<{ publicKey: string }>(
    await script.mortise(['key', 'public', 'invoices', '--format', 'jwks'], 0, app),
  );
  const [protectedHeader, , signature] = readFileSync(join(desk, 'report.jws'), 'utf8').trim().split('.');
  const payload = readFileSync(join(desk, 'report.txt')).toString('base64url');
  const jws = { protected: protectedHeader as string, payload, signature: signature as string };
  await flattenedVerify(jws, createLocalJWKSet(JSON.parse(publicKey)));
  script.see('the npm package "jose" verifies it with the public key, without the agent');
  copyFileSync(join(desk, 'report.txt'), join(desk, 'forged.txt'));
  appendFileSync(join(desk, 'forged.txt'), '!');
  await script.mortise(['verify', 'report.jws', '--message', 'forged.txt'], 4, app);
  return 'the signature holds, here and in an independent library, and breaks with one changed byte';
};

const rotateStep = async (demo: Demo): Promise<string> => {
  const { script, desk } = demo;
  const app = principal(demo, 'acme', 'app');
  await script.mortise(['key', 'rotate', 'orders', '--expect-version', '1'], 0, principal(demo, 'acme', 'admin'));
  const context = ['--aad-file', 'context'];
  const old = await script.mortise(['decrypt', 'report.jwe', ...context, '--out', 'after-rotation.txt'], 0, app);
  const fresh = await script.mortise(['encrypt', '--key', 'orders', 'report.txt', '--out', 'fresh.jwe'], 0, app);
  const version = (result: typeof old): number =>
    answerOf<{ envelope: { keyUsed: { version: number } } }>(result).envelope.keyUsed.version;
  prove(version(old) === 1 && version(fresh) === 2, 'old data by version 1, new data by version 2');
  const same = readFileSync(join(desk, 'after-rotation.txt')).equals(readFileSync(join(desk, 'report.txt')));
  prove(same, 'the old file still opens');
  return 'after a rotation old data still opens with version 1, and new data is under version 2';
};

const strangerStep = async (demo: Demo): Promise<string> => {
  const { script, desk } = demo;
  const app = principal(demo, 'acme', 'app');
  const { publicKey: own } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  writeFileSync(join(desk, 'partner.jwk'), JSON.stringify(own.export({ format: 'jwk' })));
  await script.mortise(['encrypt-to', '--jwk', 'partner.jwk', 'context', '--out', 'partner.jwe'], 0, app);
  await script.mortise(['mac', '--key', 'cookies', 'context', '--out', 'context.mac'], 0, app);
  await script.mortise(['verify-mac', '--key', 'cookies', 'context', '--mac', 'context.mac'], 0, app);
  await script.mortise(['verify-mac', '--key', 'cookies', 'report.txt', '--mac', 'context.mac'], 4, app);
  return 'a partner’s public key is used and not stored; a MAC fits its message only';
};

/** Policies, identities, keys, data. */
export const keySteps = async (demo: Demo): Promise<void> => {
  const { script } = demo;
  await script.step('Policies are signed by people', () => policyStep(demo));
  await script.step('A policy that widens is refused at signing', () => wideningStep(demo));
  await script.step('Two tenants, each by its own token', () => identityStep(demo));
  await script.step('Keys are made in the token', () => createStep(demo));
  await script.step('Encrypt and decrypt a file', () => encryptStep(demo));
  await script.step('Sign and verify', () => signStep(demo));
  await script.step('Rotate a key', () => rotateStep(demo));
  await script.step('MACs, and a stranger’s public key', () => strangerStep(demo));
};
