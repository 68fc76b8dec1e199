// The certificates that were stated over the records of an audit report, as a table and as warnings.
import type { StatedCertificate } from '../../proto/documents/audit-certificates.ts';
import type { Context } from './context.ts';
import { tableText } from './output.ts';

/** Empty where no start of an agent is in the records: only the log of `_platform` has them. */
export const certificatesText = (certificates: readonly StatedCertificate[]): string => {
  if (certificates.length === 0) return '';
  const rows = certificates.map(({ host, token, statement, from, to, warning }) => [
    ...[host, token, `${statement}${warning === '' ? '' : ' (!)'}`, from, to],
  ]);
  return `\n${tableText(['HOST', 'TOKEN', 'CERTIFICATE, AS STATED', 'FROM', 'TO'], rows)}`;
};

export const warnOfCertificates = (context: Context, certificates: readonly StatedCertificate[]): void => {
  for (const { host, token, statement, warning } of certificates) {
    if (warning !== '') context.note(`warning: ${host}, token ${token}: ${statement}: ${warning}\n`);
  }
};
