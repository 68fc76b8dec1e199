// A throw-away SoftHSM token in a temporary folder. Its SOFTHSM2_CONF is given back in `env` for the token process to
// get; it is never set in the environment of the test itself.
import { execFile } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';

export const SOFTHSM_LIBRARY = '/usr/lib/softhsm/libsofthsm2.so';

export interface SoftHsm extends AsyncDisposable {
  /** Path of the PKCS#11 library. */
  readonly library: string;
  readonly label: string;
  /** File with the user PIN, mode 0600, as an operator would give it. */
  readonly pinFile: string;
  /** The PIN itself, for tests that look for it where it must not be. */
  readonly pin: string;
  /** What the token process needs in its environment. */
  readonly env: Readonly<Record<string, string>>;
  /** Path of softhsm2.conf; the same as env.SOFTHSM2_CONF. */
  readonly confPath: string;
  /** The temporary folder, free for other files of the test. */
  readonly folder: string;
  /** Adds another initialised token to the same SoftHSM. */
  addToken(label: string, pin: string): Promise<void>;
  dispose(): Promise<void>;
}

/** Makes a SoftHSM with one initialised token. */
export const makeSoftHsm = async (options: { readonly label?: string } = {}): Promise<SoftHsm> => {
  if (!existsSync(SOFTHSM_LIBRARY)) throw new Error(`SoftHSM is not installed: ${SOFTHSM_LIBRARY} is missing`);
  const folder = await mkdtemp(join(tmpdir(), 'mortise-softhsm-'));
  const confPath = join(folder, 'softhsm2.conf');
  const pinFile = join(folder, 'pin');
  const label = options.label ?? `test-${randomBytes(4).toString('hex')}`;
  const pin = randomBytes(9).toString('hex');
  const env = { SOFTHSM2_CONF: confPath };
  const addToken = async (name: string, userPin: string): Promise<void> => {
    const args = [
      '--init-token',
      '--free',
      '--label',
      name,
      '--so-pin',
      randomBytes(9).toString('hex'),
      '--pin',
      userPin,
    ];
    await promisify(execFile)('softhsm2-util', args, { env: { PATH: '/usr/bin:/bin', ...env } });
  };
  const dispose = (): Promise<void> => rm(folder, { recursive: true, force: true });
  await mkdir(join(folder, 'tokens'), { mode: 0o700 });
  await writeFile(
    confPath,
    `directories.tokendir = ${join(folder, 'tokens')}\nobjectstore.backend = file\nlog.level = ERROR\nslots.removable = false\n`,
  );
  await writeFile(pinFile, `${pin}\n`, { mode: 0o600 });
  await addToken(label, pin);
  return {
    library: SOFTHSM_LIBRARY,
    label,
    pinFile,
    pin,
    env,
    confPath,
    folder,
    addToken,
    dispose,
    [Symbol.asyncDispose]: dispose,
  };
};
