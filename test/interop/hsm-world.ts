// The use cases over a real SoftHSM for the interop tests, with a key for every algorithm. AES keys are imported with
// known values, because the other side of A128/192/256GCMKW needs the same secret.
import { randomBytes } from 'node:crypto';
import { SIGNATURE_ALGORITHMS } from '../../agent/crypto/signature-algorithms.ts';
import type { Token } from '../../agent/token/token.ts';
import { CryptoWorld } from '../agent/operations/crypto-world.ts';
import { makeSoftHsm } from '../support/softhsm.ts';
import { openSoftHsmToken } from '../support/token.ts';

export const EC_CURVES = { 'EC-P256': 'P-256', 'EC-P384': 'P-384', 'EC-P521': 'P-521' } as const;

/** The key id of a signing key by its JOSE algorithm, and of an encryption key by its algorithm id. */
export const signerOf = (jose: string): string => `sign-${jose.toLowerCase()}`;
export const recipientOf = (algorithm: string): string => `encrypt-${algorithm.toLowerCase()}`;

export interface HsmWorld extends AsyncDisposable {
  readonly world: CryptoWorld;
  /** Values of the imported AES keys, by algorithm id. */
  readonly secrets: ReadonlyMap<string, Buffer>;
}

const importAes = async (token: Token, algorithm: string): Promise<{ tokenId: string; secret: Buffer }> => {
  const secret = randomBytes(Number(algorithm.slice(4)) / 8);
  const call = { tenant: 'acme', deadline: Date.now() + 30_000, signal: new AbortController().signal };
  // Not by softhsm2-util: one in six of the AES objects that it makes refuses AES-GCM with CKR_MECHANISM_INVALID.
  const what = { algorithm, purpose: 'encrypt', label: `interop:${algorithm}`, material: [secret] } as const;
  const { tokenId } = await token.create({ ...what, tokenId: randomBytes(16).toString('hex') }, call);
  return { tokenId, secret };
};

const addKeys = async (world: CryptoWorld, token: Token): Promise<void> => {
  const call = { tenant: 'acme', deadline: Date.now() + 120_000, signal: new AbortController().signal };
  const rsa = await token.generate({ algorithm: 'RSA-2048', purpose: 'sign', label: 'interop:rsa' }, call);
  for (const { jose, crv } of SIGNATURE_ALGORITHMS.values()) {
    const algorithm = crv === undefined ? 'RSA-2048' : crv.replace('P-', 'EC-P');
    const made = crv === undefined ? { made: rsa } : {};
    await world.add({ keyId: signerOf(jose), algorithm, jose, purpose: 'sign', ...made });
  }
  for (const algorithm of ['RSA-2048', ...Object.keys(EC_CURVES)]) {
    await world.add({ keyId: recipientOf(algorithm), algorithm, purpose: 'encrypt' });
  }
};

export const openHsmWorld = async (): Promise<HsmWorld> => {
  const hsm = await makeSoftHsm();
  const token = await openSoftHsmToken(hsm);
  const aes = new Map<string, { tokenId: string; secret: Buffer }>();
  for (const algorithm of ['AES-128', 'AES-192', 'AES-256']) aes.set(algorithm, await importAes(token, algorithm));
  const world = new CryptoWorld(token);
  await addKeys(world, token);
  for (const [algorithm, { tokenId }] of aes) {
    await world.add({ keyId: recipientOf(algorithm), algorithm, purpose: 'encrypt', made: { tokenId } });
  }
  return {
    world,
    secrets: new Map([...aes].map(([algorithm, { secret }]) => [algorithm, secret])),
    [Symbol.asyncDispose]: async () => {
      await world.pool.close();
      await token.close();
      await hsm.dispose();
    },
  };
};
