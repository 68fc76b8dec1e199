// The tokens of this host: those of MORTISE_TOKENS_FILE, or the single one of the PKCS11_ variables. Invariant: never both.
import { join } from 'node:path';
import { isVendorVariable } from '../token/environment.ts';
import { type Environment, parseCommand } from './env.ts';
import type { PinSource } from './pin-source.ts';
import { SECRETS } from './secrets.ts';
import type { Problem } from './settings.ts';
import { readTokensFile, type TokensFile, TokensFileError } from './tokens-file.ts';

/** What stands in the tokens file when there is one. */
const SINGLE_TOKEN = /^PKCS11_(?!KEK_LABEL_PREFIX$)/;

const SINGLE_NAME = 'default';

const pinOf = (env: Environment): PinSource => {
  const { PKCS11_PIN_COMMAND: command, PKCS11_PIN_FILE: file, CREDENTIALS_DIRECTORY: credentials } = env;
  if (command !== undefined) {
    return { kind: 'command', argv: parseCommand(command) ?? [], timeoutMs: env.PKCS11_PIN_COMMAND_SECONDS * 1000 };
  }
  return { kind: 'file', path: file ?? join(credentials ?? '', SECRETS.pin.credential) };
};

const singleToken = (env: Environment): TokensFile => ({
  agent: SINGLE_NAME,
  tokens: [
    {
      name: SINGLE_NAME,
      library: env.PKCS11_LIBRARY_PATH,
      label: env.PKCS11_TOKEN_LABEL,
      slotIndex: env.PKCS11_SLOT_INDEX,
      pin: pinOf(env),
      sessions: env.PKCS11_SESSION_POOL_SIZE,
      sessionTimeoutMs: env.PKCS11_SESSION_TIMEOUT_SECONDS * 1000,
      callMs: env.PKCS11_CALL_SECONDS * 1000,
      startMs: env.PKCS11_START_SECONDS * 1000,
      recoveryMs: env.PKCS11_RECOVERY_SECONDS * 1000,
      disabledMechanisms: (env.PKCS11_DISABLED_MECHANISMS ?? '')
        .split(',')
        .map((name) => name.trim())
        .filter(Boolean),
      environment: {},
      tenants: 'others',
      certificate: undefined,
    },
  ],
});

/** The tokens of the file, or the one of the variables; problems are added to those there are. */
export const tokensOf = (
  env: Environment,
  raw: Readonly<Record<string, string | undefined>>,
  problems: Problem[],
): TokensFile => {
  const path = env.MORTISE_TOKENS_FILE;
  if (path === undefined) return singleToken(env);
  const single = Object.keys(raw).filter((name) => SINGLE_TOKEN.test(name) && raw[name] !== '');
  for (const variable of single) {
    problems.push({
      variable,
      problem: 'is for a single token, and MORTISE_TOKENS_FILE is set',
      remedy: `unset ${variable}, and say it in the file`,
    });
  }
  try {
    return readTokensFile(path, { credentials: env.CREDENTIALS_DIRECTORY, allowed: isVendorVariable });
  } catch (error) {
    if (!(error instanceof TokensFileError)) throw error;
    const remedy = `correct ${path}; docs/hsm.md has an example`;
    for (const problem of error.problems) problems.push({ variable: 'MORTISE_TOKENS_FILE', problem, remedy });
    return singleToken(env);
  }
};
