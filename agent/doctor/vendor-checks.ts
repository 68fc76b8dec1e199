// What may be wrong around a vendor's library where a token does not come up: its client's configuration, who may read
// it, the clock, and what the vendor calls things. Invariant: it looks at files and variables only; no PIN is tried.
import { open, stat } from 'node:fs/promises';
import type { VendorProfile } from '../token/profiles/profile.ts';
import type { StartReason } from '../token/start-error.ts';
import { type Check, ok, warn } from './check.ts';

export interface VendorQuestion {
  readonly profile: VendorProfile;
  readonly library: string;
  readonly reason: StartReason;
  readonly environment: Readonly<Record<string, string | undefined>>;
  readonly now?: number;
}

const HOUR_MS = 3_600_000;

/** Variables of the client that are set; a name that ends with _ stands for all that begin so. */
const setVariables = ({ profile, environment }: VendorQuestion): (readonly [string, string])[] =>
  Object.entries(environment).flatMap(([name, value]) => {
    const wanted = profile.client.is.variables.some((row) => (row.endsWith('_') ? name.startsWith(row) : name === row));
    return wanted && value !== undefined && value !== '' ? [[name, value] as const] : [];
  });

/** Paths of the client: those that its variables name, else where the vendor's installer puts them. */
const clientPaths = (question: VendorQuestion): readonly (readonly [string, string])[] => {
  const named = setVariables(question).filter(([, value]) => value.startsWith('/'));
  if (named.length > 0) return named.map(([name, path]) => [path, `, which ${name} names,`] as const);
  return question.profile.client.is.files.map((path) => [path, ''] as const);
};

const pathCheck = async (path: string, named: string, { profile }: VendorQuestion): Promise<Check | undefined> => {
  try {
    await (await open(path)).close();
    return undefined;
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'EACCES' || code === 'EPERM') {
      return warn('client', `${path}${named} cannot be read by this user`, 'let the user of the agent read it');
    }
    const { variables } = profile.client.is;
    const hint = variables.length === 0 ? '' : `, or say where it is by ${variables.join(' or ')}`;
    return warn('client', `${path}${named} is not there`, `set up the client of ${profile.title}${hint}`);
  }
};

/** A file from the future: TLS to the HSM, and certificates, fail with a clock that is behind. */
const clockCheck = async (paths: readonly string[], now: number): Promise<Check | undefined> => {
  for (const path of paths) {
    const written = (await stat(path).catch(() => undefined))?.mtimeMs ?? 0;
    if (written > now + HOUR_MS) {
      const detail = `${path} was written at ${new Date(written).toISOString()}, after what the clock says`;
      return warn('clock', detail, 'set the clock: certificates between client and HSM do not hold before their time');
    }
  }
  return undefined;
};

const WORDS: Readonly<Partial<Record<StartReason, (profile: VendorProfile) => string | undefined>>> = {
  'library-missing': ({ libraries }) => `it is usually ${libraries.is.join(' or ')}`,
  'token-missing': ({ name }) => NO_TOKEN[name],
  'pin-form': ({ pin }) => FORMS[pin.is],
  'pin-refused': ({ pin }) => FORMS[pin.is],
};

const FORMS: Readonly<Record<VendorProfile['pin']['is'], string | undefined>> = {
  plain: 'the PIN file holds the user PIN alone; a line end after it does no harm',
  'user:password': 'the PIN file holds user:password of a crypto user, not of an administrator',
  'pass phrase': 'the PIN file holds the pass phrase of the softcard or card set that the token stands for',
  ignored: 'the PIN is ignored; who may log in is said by the credentials of the client',
};

const NO_TOKEN: Readonly<Record<string, string>> = {
  luna: 'a partition that is not initialised or not assigned to this client is not shown: lunacm, slot list; vtl verify',
  nshield:
    'a softcard is shown with CKNFAST_LOADSHARING=1 only, and only in an operational world: nfkminfo, ppmk --list',
  cloudhsm: 'the cluster must be active and the client configured for it: configure-pkcs11 -a ADDRESS',
  'azure-cloud': 'the cluster must be activated and azcloudhsm_client run: azcloudhsm_util',
  google: 'each key ring of the YAML is a token, labelled as the YAML says',
  softhsm: 'make it: softhsm2-util --init-token --free --label NAME, as the user of the agent',
  nss: 'make the database: certutil -N -d sql:FOLDER -f PINFILE; its token is "NSS Certificate DB"',
  opencryptoki: 'pkcsslotd must run, this user be named in the group pkcs11, the token be initialised: pkcsconf -t',
  tpm2: 'make it: tpm2_ptool addtoken, in the folder that TPM2_PKCS11_STORE names',
};

/** For a token that did not come up; nothing where the module is none that we know. */
export const vendorChecks = async (question: VendorQuestion): Promise<readonly Check[]> => {
  const { profile, reason, library, now = Date.now() } = question;
  if (profile.name === 'generic') return [];
  const paths = clientPaths(question);
  const found = await Promise.all(paths.map(([path, named]) => pathCheck(path, named, question)));
  const clock = await clockCheck([library, ...paths.map(([path]) => path)], now);
  const words = WORDS[reason]?.(profile);
  return [
    ...(words === undefined ? [] : [ok('vendor', `${profile.title}: ${words}`)]),
    ...[...found, clock].filter((check) => check !== undefined),
  ];
};
