// What an operator says of the validation of a token's module. Invariant: it is a statement, shown as it was given; the
// agent asks no validation body, and claims nothing of its own by it.

export const CERTIFICATE_STATUSES = ['active', 'historical', 'revoked'] as const;

export interface CertificateStatement {
  /** As the validation body lists it, for example "CMVP 4703". */
  readonly identifier: string;
  /** For example "FIPS 140-3". */
  readonly standard: string;
  readonly level: number;
  /** Milliseconds since 1970: the first moment of the day on which it is no longer active. */
  readonly expires: number;
  readonly status: (typeof CERTIFICATE_STATUSES)[number];
}

const DAY_MS = 24 * 3_600_000;
const SOON_DAYS = 90;

/** Why an auditor would ask; undefined where the certificate is active and will be for a while. */
export const certificateWarning = (certificate: CertificateStatement, now: number): string | undefined => {
  const { identifier, status, expires } = certificate;
  const day = new Date(expires).toISOString().slice(0, 10);
  if (status !== 'active') return `certificate ${identifier} is ${status}: new systems should not rely on it`;
  if (now >= expires) return `certificate ${identifier} expired on ${day}`;
  if (expires - now < SOON_DAYS * DAY_MS) return `certificate ${identifier} expires on ${day}`;
  return undefined;
};
