// mortise registry token-sessions …: how many sessions of a token all hosts together may open, and who has which share.
import type { SessionBudget, TokenName } from '../../../proto/gen/mortise/registry/v1/sessions.ts';
import { SessionsServiceService } from '../../../proto/gen/mortise/registry/v1/sessions.ts';
import type { Context } from '../context.ts';
import { tableText } from '../output.ts';
import { openSession, type SessionOptions } from './session.ts';

export interface TokenOptions extends SessionOptions {
  readonly serial?: string;
}

export interface SetTokenSessionsOptions extends TokenOptions {
  readonly total: number;
  readonly reserve: number;
  /** Milliseconds. */
  readonly lease?: number;
}

const nameOf = (label: string, { serial = '' }: TokenOptions): TokenName => ({ label, serial });

const tokenText = (token: TokenName | undefined): string => {
  const { label = '', serial = '' } = token ?? {};
  return serial === '' ? label : `${label} (${serial})`;
};

const summaryText = ({ token, total, reserve, leaseSeconds, shares }: SessionBudget): string => {
  const held = shares.reduce((sum, share) => sum + share.held, 0);
  return `${tokenText(token)}: ${total} sessions, ${reserve} in reserve, ${held} held by hosts, leases of ${leaseSeconds} s`;
};

export const setTokenSessions = async (
  context: Context,
  options: SetTokenSessionsOptions,
  label: string,
): Promise<void> => {
  using session = await openSession(context, options);
  const { total, reserve, lease = 0 } = options;
  const request = { token: nameOf(label, options), total, reserve, leaseSeconds: Math.ceil(lease / 1000) };
  const { budget } = await session.call(SessionsServiceService.setBudget, request);
  const text = budget === undefined ? `${tokenText(request.token)} has no budget any more` : summaryText(budget);
  await context.print({ text: `${text}\n`, json: { budget } });
};

const sharesText = ({ shares }: SessionBudget): string =>
  tableText(
    ['HOST', 'TOKEN', 'SHARE', 'HELD', 'SINCE', 'LEASE UNTIL', 'STATE'],
    shares.map(({ host, name, share, held, since, leaseEnd, state }) => [
      ...[host, name, String(share), String(held)],
      ...[since, leaseEnd, state],
    ]),
  );

export const listTokenSessions = async (context: Context, options: SessionOptions): Promise<void> => {
  using session = await openSession(context, options);
  const { budgets } = await session.call(SessionsServiceService.listBudgets, {});
  const blocks = budgets.map((budget) => `${summaryText(budget)}\n${sharesText(budget)}`);
  await context.print({ text: blocks.length === 0 ? 'no token has a budget\n' : blocks.join('\n'), json: { budgets } });
};

export const forgetTokenSessions = async (
  context: Context,
  options: TokenOptions,
  label: string,
  host: string,
): Promise<void> => {
  using session = await openSession(context, options);
  const { budget } = await session.call(SessionsServiceService.forgetShare, { token: nameOf(label, options), host });
  await context.print({ text: `what ${host} held of ${label} is for the others\n`, json: { budget } });
};
