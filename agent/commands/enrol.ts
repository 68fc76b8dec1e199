// `agent enrol`: trades a one-time token for the host's first certificate, and pins what the registry is known by.
import { readFile } from 'node:fs/promises';
import { prepareDataFolder } from '../assembly/data-folder.ts';
import { ConfigError, loadConfig, type RegistryConfig } from '../config/config.ts';
import { readSecret, SecretError } from '../config/secret-file.ts';
import { AgentError } from '../errors.ts';
import { EXIT, type ExitCode } from '../lifecycle.ts';
import { type EnrolInput, type Enrolled, enrol } from '../uplink/enrol.ts';
import { isEnrolled } from '../uplink/identity.ts';
import { Refusal } from '../uplink/refusal.ts';

export interface EnrolHostInput {
  readonly environment: Readonly<Record<string, string | undefined>>;
  readonly tokenFile: string;
  /** Where credentials are there already, do nothing: for programs that run it before every start. */
  readonly unlessEnrolled: boolean;
  readonly print: (line: string) => void;
  readonly complain: (line: string) => void;
}

/** An anchor that somebody has named for this host; the one that an enrolment brings must be the same. */
const namedAnchor = async ({ environment }: EnrolHostInput): Promise<Buffer | undefined> => {
  const path = environment['MORTISE_TRUST_ANCHOR'];
  if (path === undefined || path === '') return undefined;
  return readFile(path).catch((cause: NodeJS.ErrnoException) => {
    throw new AgentError('INVALID_REQUEST', { message: `MORTISE_TRUST_ANCHOR: ${path}: ${cause.code}`, cause });
  });
};

const failed = ({ complain }: EnrolHostInput, error: unknown): ExitCode => {
  if (error instanceof ConfigError) {
    for (const line of error.message.split('\n')) complain(line);
    return EXIT.config;
  }
  if (error instanceof SecretError) {
    complain(`--token-file: ${error.message}; ${error.remedy}`);
    return EXIT.config;
  }
  if (error instanceof Refusal) complain(`mortise agent: not enrolled: ${error.code}: ${error.message}`);
  else if (error instanceof AgentError) complain(`mortise agent: not enrolled: ${error.message}`);
  else throw error;
  return EXIT.failure;
};

/** At the first replica that answers; what one refuses, all do. */
const enrolAtOne = async (
  { addresses, dir, requireHybrid }: RegistryConfig,
  what: Pick<EnrolInput, 'host' | 'token' | 'ownAnchor'>,
): Promise<Enrolled> => {
  let failure: unknown;
  for (const address of addresses) {
    try {
      return await enrol({ ...what, address, dir, requireHybrid });
    } catch (error) {
      if (!(error instanceof Refusal && error.isUnknown)) throw error;
      failure = error;
    }
  }
  throw failure;
};

export const enrolHost = async (input: EnrolHostInput): Promise<ExitCode> => {
  try {
    const { config } = loadConfig(input.environment);
    const { registry, hostId: host, dataDir } = config;
    if (registry === undefined) {
      input.complain('MORTISE_REGISTRY_URL: not set; set it to, for example, https://registry.example.com:7443');
      return EXIT.config;
    }
    if (input.unlessEnrolled && isEnrolled(registry)) {
      input.print(`host ${host} is enrolled already; its credentials are in ${registry.dir}`);
      return EXIT.ok;
    }
    const ownAnchor = await namedAnchor(input);
    const secret = await readSecret(input.tokenFile);
    const token = secret.toString('latin1');
    secret.fill(0);
    await prepareDataFolder(dataDir);
    const { tenants, renewAt } = await enrolAtOne(registry, { host, token, ownAnchor });
    input.print(`host ${host} is enrolled for ${tenants.join(', ')}`);
    input.print(
      `credentials are in ${registry.dir}; the certificate is renewed from ${new Date(renewAt).toISOString()} on`,
    );
    return EXIT.ok;
  } catch (error) {
    return failed(input, error);
  }
};
