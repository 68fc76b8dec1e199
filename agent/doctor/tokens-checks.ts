// Every token of the host, one after the other, with what its operator says of its certificate.
import { certificateWarning } from '../config/certificate.ts';
import type { Config } from '../config/config.ts';
import { type Check, ok, warn } from './check.ts';
import { sessionChecks } from './session-checks.ts';
import { checkToken } from './token-checks.ts';

const certificateChecks = ({ token }: Config): readonly Check[] => {
  const { certificate } = token;
  if (certificate === undefined) return [];
  const { identifier, standard, level, expires, status } = certificate;
  const said = `${identifier}, ${standard} level ${level}, ${status}, until ${new Date(expires).toISOString().slice(0, 10)}`;
  const warning = certificateWarning(certificate, Date.now());
  if (warning === undefined) return [ok('certificate', `${said}, as configured`)];
  return [warn('certificate', `${said}, as configured: ${warning}`, 'ask the vendor for a validated firmware')];
};

export const checkTokens = async (
  config: Config,
  environment: Readonly<Record<string, string | undefined>>,
): Promise<readonly Check[]> => {
  const checks: Check[] = [];
  for (const token of config.tokens) {
    const one = { ...config, token };
    const found = [...(await checkToken(one, environment)), ...certificateChecks(one), ...sessionChecks(one)];
    if (config.tokens.length === 1) checks.push(...found);
    else checks.push(...found.map((check) => ({ ...check, detail: `${token.name}: ${check.detail}` })));
  }
  return checks;
};
