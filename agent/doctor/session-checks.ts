// What the registry last told this host of its share of a token's sessions. The registry itself is not asked.
import { readShare, shareFile } from '../assembly/remembered-share.ts';
import type { Config } from '../config/config.ts';
import { type Check, fail, ok } from './check.ts';

const LEAST = 2; // one keeps the login, one works

/** None where the agent stands alone, or where nobody divides the token's sessions. */
export const sessionChecks = ({ dataDir, registry, token }: Config): readonly Check[] => {
  const known = registry === undefined ? undefined : readShare(shareFile(dataDir, token.name));
  if (known === undefined || !known.limited) return [];
  const { share, total, hosts } = known;
  const said = `${share} of the registry's budget of ${total} for ${hosts} hosts, as last told to the agent`;
  if (share >= LEAST) return [ok('sessions', said)];
  return [
    fail('sessions', `${said}: the token is not used`, 'mortise registry token-sessions set, with a larger total'),
  ];
};
