// The data folder: only the agent's user may look into it, and it says by which layout it was written. Invariant: an
// agent opens no store of a folder whose layout it does not know.
import { chmod, mkdir, open, readdir, readFile, rename, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { AgentError } from '../errors.ts';

/** First line of the file `format`; counts up with every change that an older agent would misread. */
export const DATA_FORMAT = 'mortise-data 1';
const FORMAT_FILE = 'format';
const MAX_FORMAT_LENGTH = 64;
const STORES = ['keys', 'policy', 'identity', 'audit'];

const unusable = (message: string, cause?: unknown): AgentError =>
  new AgentError('STORE_UNAVAILABLE', { message, ...(cause !== undefined && { cause }) });

const writeFormat = async (path: string): Promise<void> => {
  const beside = join(path, `${FORMAT_FILE}.new`);
  await using file = await open(beside, 'w', 0o600);
  await file.writeFile(`${DATA_FORMAT}\n`);
  await file.sync();
  await rename(beside, join(path, FORMAT_FILE));
};

/** What the format file says, or undefined where there is none. */
const readFormat = (path: string): Promise<string | undefined> =>
  readFile(join(path, FORMAT_FILE), 'utf8').then(
    (text) => text.trim().slice(0, MAX_FORMAT_LENGTH),
    (error: NodeJS.ErrnoException) => {
      if (error.code === 'ENOENT') return undefined;
      throw error;
    },
  );

const checkFormat = async (path: string): Promise<void> => {
  const format = await readFormat(path);
  if (format === DATA_FORMAT) return;
  if (format !== undefined) {
    throw unusable(
      `the data folder ${path} has the format ${JSON.stringify(format)}, and this agent reads "${DATA_FORMAT}"; ` +
        'start the version that wrote it, or restore a backup of before the upgrade',
    );
  }
  const names = await readdir(path);
  if (STORES.some((store) => names.includes(store))) {
    throw unusable(
      `the data folder ${path} has stores but no file "${FORMAT_FILE}": it is not whole; restore all of it ` +
        'from one backup, or check MORTISE_DATA_DIR',
    );
  }
  await writeFormat(path);
};

/** Makes the folder where it is missing, its mode 0700, and its format known. Rejects with words that say what to do. */
export const prepareDataFolder = async (path: string): Promise<void> => {
  try {
    // Not recursive: a missing parent is a typing error more often than not.
    await mkdir(path, { mode: 0o700 }).catch((error: NodeJS.ErrnoException) => {
      if (error.code !== 'EEXIST') throw error;
    });
    const { uid, mode } = await stat(path);
    if (uid !== process.getuid?.()) {
      throw unusable(`the data folder ${path} belongs to user ${uid}, not to the agent's; chown it (MORTISE_DATA_DIR)`);
    }
    if ((mode & 0o077) !== 0) await chmod(path, 0o700);
    await checkFormat(path);
  } catch (cause) {
    if (cause instanceof AgentError) throw cause;
    const { code } = cause as NodeJS.ErrnoException;
    throw unusable(`the data folder ${path} cannot be made or used (${code}); check MORTISE_DATA_DIR`, cause);
  }
};
