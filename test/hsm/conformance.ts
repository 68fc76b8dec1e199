// One suite for every token, through the socket of a whole agent: each algorithm of the table for each purpose. A key is
// made, does its work, changed inputs are refused; what another program can check is checked by jose and node:crypto, and
// what the token cannot hold is refused with the reason.
import assert from 'node:assert/strict';
import { createPublicKey, type JsonWebKey, randomBytes, verify } from 'node:crypto';
import { after, before, describe, test } from 'node:test';
import { CompactEncrypt, importJWK, type JWK } from 'jose';
import { type MortiseClient, MortiseError } from '../../clients/typescript/index.ts';
import { ALGORITHMS, type Custody } from '../../proto/documents/algorithms.ts';
import { clientOf } from '../e2e/load.ts';
import { makeAgentPolicy, makeIssuer, type RunningAgent, startAgent } from '../support/agent.ts';
import type { SoftHsm } from '../support/softhsm.ts';
import { type Outcome, USES, type Use, wrappingOf } from './outcomes.ts';

/** A token as an operator would give it to an agent. */
export interface Target {
  readonly library: string;
  readonly label: string;
  readonly pinFile: string;
  /** What the library needs. */
  readonly env: Readonly<Record<string, string>>;
}

export interface ConformanceOptions {
  readonly name: string;
  readonly target: () => Promise<Target>;
  /** Leaves slow uses out; the matrix leaves out none. */
  readonly only?: (use: Use) => boolean;
  /** What has to be refused, else nothing may be. */
  readonly refuses?: (use: Use) => boolean;
  /** What the log names at start as lacking. */
  readonly lacks?: RegExp;
  /** Gets what was seen, at the end, and how the agent says that the token wraps keys. */
  readonly seen?: (outcomes: readonly Outcome[], wraps: string) => void;
}

const message = Buffer.from('Not all those who wander are lost');
const CALL = { deadlineMs: 120_000 }; // RSA-4096 in a token, SLH-DSA in software
const flipped = (bytes: Uint8Array): Buffer => {
  const copy = Buffer.from(bytes);
  copy[copy.length >> 1] = (copy[copy.length >> 1] as number) ^ 1;
  return copy;
};
const refusedOrFalse = async (what: Promise<{ valid: boolean }>): Promise<void> => {
  const valid = await what.then(
    (answer) => answer.valid,
    (error: unknown) => {
      assert.ok(error instanceof MortiseError && error.reason.startsWith('INVALID'), String(error));
      return false;
    },
  );
  assert.equal(valid, false, 'a changed text passes');
};

const jwkOf = async (client: MortiseClient, keyId: string): Promise<JWK> =>
  JSON.parse((await client.keys.publicKey(keyId, { format: 'jwk', ...CALL })).publicKey);

/** What node:crypto can verify by itself: neither composites nor what its OpenSSL does not have. */
const HASH: Readonly<Record<string, string>> = { ES256: 'sha256', ES384: 'sha384', ES512: 'sha512' };
const verifiedElsewhere = (jose: string, jwk: JWK, signature: Buffer): boolean | undefined => {
  if (!/^(ES\d{3}|Ed25519|ML-DSA-\d\d)$/.test(jose)) return undefined;
  const key = createPublicKey({ key: jwk as JsonWebKey, format: 'jwk' });
  const hash = HASH[jose];
  return hash === undefined
    ? verify(null, message, key, signature)
    : verify(hash, message, { key, dsaEncoding: 'ieee-p1363' }, signature);
};

const signs = async (client: MortiseClient, keyId: string, joseNames: readonly string[]): Promise<void> => {
  const { signature, envelope } = await client.sign(keyId, { message }, { form: 'raw', ...CALL });
  assert.ok(joseNames.includes(envelope.algorithmUsed), envelope.algorithmUsed);
  const raw = { raw: signature, message };
  assert.equal((await client.verify(raw, { key: keyId, ...CALL })).valid, true);
  await refusedOrFalse(client.verify({ raw: flipped(signature), message }, { key: keyId, ...CALL }));
  await refusedOrFalse(client.verify({ raw: signature, message: flipped(message) }, { key: keyId, ...CALL }));
  const elsewhere = verifiedElsewhere(envelope.algorithmUsed, await jwkOf(client, keyId), signature);
  assert.notEqual(elsewhere, false, 'node:crypto refuses the signature');
};

const encrypts = async (client: MortiseClient, keyId: string, jose: string): Promise<void> => {
  const { jwe } = await client.encrypt(keyId, message, CALL);
  assert.deepEqual((await client.decrypt(jwe, CALL)).plaintext, message);
  const [header, key = '', iv, text, tag] = jwe.split('.');
  const wrong = [header, flipped(Buffer.from(key, 'base64url')).toString('base64url'), iv, text, tag].join('.');
  await assert.rejects(client.decrypt(key === '' ? flippedText(jwe) : wrong, CALL), (error: unknown) => {
    assert.ok(error instanceof MortiseError, String(error));
    assert.equal(error.reason, 'INVALID_CIPHERTEXT');
    return true;
  });
  if (!/^(RSA-OAEP-256|ECDH-ES\+A256KW)$/.test(jose)) return;
  const jwk = await jwkOf(client, keyId);
  const foreign = await new CompactEncrypt(message)
    .setProtectedHeader({ alg: jose, enc: 'A256GCM', ...(jwk.kid !== undefined && { kid: jwk.kid }) })
    .encrypt(await importJWK(jwk, jose));
  assert.deepEqual((await client.decrypt(foreign, CALL)).plaintext, message, 'what jose encrypted does not open');
};
const flippedText = (jwe: string): string => {
  const parts = jwe.split('.');
  parts[3] = flipped(Buffer.from(parts[3] ?? '', 'base64url')).toString('base64url');
  return parts.join('.');
};

const macs = async (client: MortiseClient, keyId: string): Promise<void> => {
  const { mac } = await client.mac(keyId, message, CALL);
  assert.equal((await client.verifyMac(keyId, message, mac, CALL)).valid, true);
  await refusedOrFalse(client.verifyMac(keyId, message, flipped(mac), CALL));
  await refusedOrFalse(client.verifyMac(keyId, randomBytes(8), mac, CALL));
};

export const conformance = (options: ConformanceOptions): void => {
  const { name, target, only = () => true, refuses = () => false } = options;
  describe(`conformance: ${name}`, () => {
    let agent: RunningAgent;
    let client: MortiseClient;
    const outcomes: Outcome[] = [];
    let wraps = '';
    before(async () => {
      const issuer = makeIssuer();
      const allow = ALGORITHMS.filter(({ status }) => status !== 'forbidden').map(({ id }) => id);
      const policy = await makeAgentPolicy(issuer, { platform: { algorithms: { allow } } });
      const token = { ...(await target()), dispose: async () => {} } as unknown as SoftHsm;
      agent = await startAgent({ shared: { token, issuer, policy } });
      client = clientOf(agent, 'acme');
    });
    after(async () => {
      client?.close();
      await agent?.stop();
      await agent?.policy.remove();
      options.seen?.(outcomes, wraps);
    });

    const make = async (use: Use, keyId: string): Promise<Custody | undefined> => {
      try {
        await client.keys.create({ keyId, ...use }, CALL);
      } catch (error) {
        assert.ok(error instanceof MortiseError, String(error));
        assert.equal(error.reason, 'HSM_UNSUPPORTED', error.message);
        assert.match(error.message, /cannot hold .* for .*: .+/, 'it does not say what is missing');
        assert.equal(refuses(use), true, error.message);
        outcomes.push({ ...use, seen: 'refused', why: error.message });
        return undefined;
      }
      return (await client.keys.get(keyId, CALL)).versions.at(-1)?.custody as Custody;
    };

    const { lacks } = options;
    if (lacks !== undefined) {
      test('what it lacks is named at start', async () => {
        const line = await agent.logged((row) => Array.isArray(row['lacks']));
        assert.match((line['lacks'] as string[]).join('\n'), lacks);
      });
    }

    test('the agent says how keys are wrapped', async () => {
      const [token] = (await client.status(CALL)).tokens;
      wraps = wrappingOf(token?.detail ?? '');
    });

    for (const use of USES.filter(only)) {
      const row = ALGORITHMS.find(({ id }) => id === use.algorithm) ?? assert.fail();
      test(`${use.algorithm} to ${use.purpose}`, async () => {
        const keyId = `${use.algorithm}-${use.purpose}`.toLowerCase();
        const custody = await make(use, keyId);
        if (custody === undefined) return;
        const names = row.jose[use.purpose] ?? [];
        if (use.purpose === 'sign') await signs(client, keyId, names);
        else if (use.purpose === 'encrypt') await encrypts(client, keyId, names[0] ?? '');
        else await macs(client, keyId);
        outcomes.push({ ...use, seen: custody });
      });
    }
  });
};
