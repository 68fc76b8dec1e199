// Pages of lists. Invariant: a page token is bound to what was asked, so that it cannot be carried to another question.
import { hash } from 'node:crypto';
import { invalid } from '../errors.ts';

export interface PageRequest {
  readonly pageSize: number;
  readonly pageToken: string;
}

const MAX_TOKEN_BYTES = 2048;
const TAG_BYTES = 8;

const tagOf = (question: readonly unknown[]): Buffer =>
  hash('sha256', JSON.stringify(question), 'buffer').subarray(0, TAG_BYTES);

export const pageSize = ({ pageSize: size }: PageRequest, { most = 500, usual = 100 } = {}): number => {
  if (size > most) throw invalid('page_size', `must be at most ${most}`);
  return size === 0 ? usual : size;
};

/** Where the page begins: behind this; undefined for the first page. */
export const pageStart = ({ pageToken }: PageRequest, question: readonly unknown[]): string | undefined => {
  if (pageToken === '') return undefined;
  const bytes = Buffer.from(pageToken.slice(0, MAX_TOKEN_BYTES), 'base64url');
  const isOurs = bytes.length > TAG_BYTES && bytes.toString('base64url') === pageToken;
  if (!isOurs || !bytes.subarray(0, TAG_BYTES).equals(tagOf(question))) {
    throw invalid('page_token', 'is not one that this question was answered with');
  }
  return bytes.subarray(TAG_BYTES).toString();
};

/** The token of the page behind `last`; empty where there is none. */
export const nextPage = (last: string | undefined, question: readonly unknown[]): string =>
  last === undefined ? '' : Buffer.concat([tagOf(question), Buffer.from(last)]).toString('base64url');
