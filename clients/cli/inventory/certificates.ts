// What the operator of the host says of the validation of the tokens' modules, beside the keys that live in them. Invariant:
// it is a statement, shown as it was given; Mortise itself is not a validated module and claims nothing by it.
import { type AgentStatus, type CallOptions, type MortiseClient, MortiseError } from '../../typescript/index.ts';

type Token = AgentStatus['tokens'][number];
export type Certificate = NonNullable<Token['certificate']>;

/** A token of the tenant, with its statement if there is one. */
export interface TokenEntry {
  readonly name: string;
  readonly label: string | undefined;
  readonly serial: string | undefined;
  readonly certificate: Certificate | undefined;
}

/** Undefined where the caller may not ask for it: the keys are listed all the same. */
export const tokensOf = async (
  client: MortiseClient,
  call: CallOptions,
): Promise<readonly TokenEntry[] | undefined> => {
  try {
    const { tokens } = await client.status(call);
    return tokens.map(({ name, token, certificate }) => ({
      name,
      label: token?.label,
      serial: token?.serial,
      certificate,
    }));
  } catch (error) {
    if (error instanceof MortiseError && error.code === 'PERMISSION_DENIED') return undefined;
    throw error;
  }
};

/** The token that the tenant's keys are in: one, except for the platform, which sees them all and has no such keys. */
export const certificateOfKeys = (tokens: readonly TokenEntry[]): Certificate | undefined =>
  tokens.length === 1 ? tokens[0]?.certificate : undefined;

const LEVELS = /^FIPS 140-([123])$/;

/** As CycloneDX 1.6 names it, where the certificate is good now; undefined where it is not, or of another kind. */
export const certificationLevel = (
  { standard, level, status, expireTime }: Certificate,
  now: Date,
): string | undefined => {
  if (status !== 'active' || (expireTime !== undefined && now >= expireTime)) return undefined;
  const fips = LEVELS.exec(standard);
  return fips !== null && level >= 1 && level <= 4 ? `fips140-${fips[1]}-l${level}` : 'other';
};
