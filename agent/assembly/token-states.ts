// How each token of the host is, as each tenant may see it: its own, and no other's name.
import { certificateWarning } from '../config/certificate.ts';
import type { AgentState, TokenState, TokenView } from '../operations/ports/status.ts';
import type { RoutedToken, TokenRouter } from './token-router.ts';

const PLATFORM_TENANT = '_platform';

const visibleTo = (tokens: TokenRouter, tenant: string): readonly RoutedToken[] => {
  if (tenant === PLATFORM_TENANT) return tokens.all;
  const own = tokens.of(tenant);
  return own === undefined ? [] : [own];
};

/** Part "token" of the health: for the platform healthy where every token is, for a tenant where its own is. */
export const tokenPart = (tokens: TokenRouter, tenant: string): AgentState['parts'][number] => {
  const rows = visibleTo(tokens, tenant).map(({ name, slot }) => ({ name, ...slot.health() }));
  const [first] = rows;
  if (first === undefined) return { part: 'token', healthy: false, detail: 'no token of this host is for this tenant' };
  if (rows.length === 1) return { part: 'token', healthy: first.healthy, detail: first.detail };
  const broken = rows.filter(({ healthy }) => !healthy);
  if (broken.length === 0) return { part: 'token', healthy: true, detail: `${rows.length} tokens are ready` };
  return { part: 'token', healthy: false, detail: broken.map(({ name, detail }) => `${name}: ${detail}`).join('; ') };
};

export const tokenView = (routed: RoutedToken | undefined): TokenView | undefined => {
  const ready = routed?.slot.token;
  if (ready === undefined) return undefined;
  const { label, manufacturer, model, serial, library, sessions } = ready.info();
  return {
    label,
    model: `${manufacturer} ${model}`.trim(),
    serial,
    library,
    sessions,
    restarts: ready.restarts(),
    abilities: ready.abilities(),
  };
};

export const tokenStates = (tokens: TokenRouter, tenant: string, now: number): readonly TokenState[] =>
  visibleTo(tokens, tenant).map((routed) => {
    const { name, slot, certificate } = routed;
    const { healthy, detail } = slot.health();
    return {
      name,
      healthy,
      detail,
      token: tokenView(routed),
      certificate: certificate && { ...certificate, warning: certificateWarning(certificate, now) ?? '' },
    };
  });

const MOST_RECORDED = 16; // a record's detail has at most 4 KiB

/** What the operator says of the tokens' certificates, for the record of a start. */
export const certificatesOf = (tokens: TokenRouter): { readonly certificates?: Readonly<Record<string, string>> } => {
  const rows = tokens.all.flatMap(({ name, certificate }) => {
    if (certificate === undefined) return [];
    const { identifier, standard, level, status, expires } = certificate;
    const until = new Date(expires).toISOString().slice(0, 10);
    return [[name, `${identifier}, ${standard} level ${level}, ${status}, until ${until}`] as const];
  });
  return rows.length === 0 ? {} : { certificates: Object.fromEntries(rows.slice(0, MOST_RECORDED)) };
};
