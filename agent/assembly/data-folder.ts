// The data folder: only the agent's user may look into it.
import { chmod, mkdir, stat } from 'node:fs/promises';
import { AgentError } from '../errors.ts';

const unusable = (message: string, cause?: unknown): AgentError =>
  new AgentError('STORE_UNAVAILABLE', { message, ...(cause !== undefined && { cause }) });

/** Makes the folder where it is missing and its mode 0700. Rejects with words that say what to do. */
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
  } catch (cause) {
    if (cause instanceof AgentError) throw cause;
    const { code } = cause as NodeJS.ErrnoException;
    throw unusable(`the data folder ${path} cannot be made or used (${code}); check MORTISE_DATA_DIR`, cause);
  }
};
