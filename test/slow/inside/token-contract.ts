// Runs the contract of tokens on a module inside a Debian root; what it is told is in its environment.
import { readFile } from 'node:fs/promises';
import { openToken } from '../../../agent/token/token.ts';
import { tokenContract } from '../../contract/token.ts';
import { ignoredTokenEvents } from '../../support/token.ts';

const { MODULE_LIBRARY = '', MODULE_LABEL = '', MODULE_PIN_FILE = '' } = process.env;

const open = async () => {
  const token = await openToken({
    library: MODULE_LIBRARY,
    tokenLabel: MODULE_LABEL,
    pin: async () => Buffer.from((await readFile(MODULE_PIN_FILE, 'utf8')).trim()),
    sessions: 4,
    acquireTimeoutMs: 30_000,
    environment: process.env,
    events: { ...ignoredTokenEvents, tokenOutput: ({ line }) => console.log(line) },
  });
  const { libraryDescription, libraryVersion, firmware } = token.info();
  console.log(`${libraryDescription} ${libraryVersion}, token ${firmware}`);
  for (const { name, ok, why = '' } of token.abilityReport()) console.log(ok ? 'can' : 'cannot', name, why);
  return { token, close: () => token.close() };
};

tokenContract(MODULE_LIBRARY, open, { without: ['RSA-4096'] });
