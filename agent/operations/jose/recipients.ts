// Which recipients of a JWE, and which versions of their keys, a caller's key may open: those that a kid of ours names,
// else those that have no kid of ours. The header's `alg` chooses nothing: it must equal the version's.
import type { KeyRecord, KeyVersionRecord } from '../../../proto/documents/key-record.ts';
import { isJsonJwe, parseJsonJwe } from '../../crypto/general-jwe.ts';
import { type CompactJwe, parseCompactJwe } from '../../crypto/jwe.ts';
import { AgentError, invalid } from '../../errors.ts';
import type { Part, Run } from '../perform.ts';
import { MAX_JOSE_BYTES, refuseForbidden, requireSize } from './checks.ts';
import { MAX_TRIED_VERSIONS, type NamedKey, namedKey, parseKid, versionsToTry } from './named-key.ts';

/** A JWE as each of its recipients sees it; one in the compact serialization. */
export const readRecipients = (text: string, field = 'jwe'): readonly CompactJwe[] => {
  requireSize(field, text.length, MAX_JOSE_BYTES);
  if (!isJsonJwe(text)) return [parseCompactJwe(text)];
  return parseJsonJwe(text).recipients.map((row) => row.jwe);
};

export interface Attempt {
  readonly jwe: CompactJwe;
  readonly key: KeyRecord;
  readonly version: KeyVersionRecord;
}

interface Named {
  readonly jwe: CompactJwe;
  readonly named: NamedKey;
}

interface Input {
  readonly recipients: readonly CompactJwe[];
  readonly key: string;
  readonly keyField?: string;
  readonly part?: Part;
}

/** Another recipient may be meant where this one's key is not there for the caller. */
const PASSED_OVER: ReadonlySet<string> = new Set(['KEY_UNKNOWN', 'KEY_STATE', 'PERMISSION_DENIED']);

const name = (run: Run, jwe: CompactJwe, { key, part, keyField }: Input): Named => ({
  jwe,
  named: namedKey(run, {
    key,
    kid: jwe.header.kid,
    field: 'jwe',
    ...(part && { part }),
    ...(keyField !== undefined && { keyField }),
  }),
});

/** Of several recipients, those under the key given; without one, the first that the caller may use. */
const choose = (run: Run, input: Input): readonly Named[] => {
  const [only, ...others] = input.recipients;
  if (only !== undefined && others.length === 0) return [name(run, only, input)];
  const kids = input.recipients.map((jwe) => ({ jwe, kid: parseKid(jwe.header.kid ?? '') }));
  const ours = kids.filter(({ kid }) => kid?.tenant === run.tenant);
  if (input.key !== '') {
    const keyId = run.keyId(input.key, input.keyField);
    const named = ours.filter(({ kid }) => kid?.keyId === keyId);
    const meant = named.length > 0 ? named : kids.filter(({ kid }) => kid === undefined);
    if (meant.length === 0) throw invalid(input.keyField ?? 'key', 'is not the key of a recipient');
    return meant.map(({ jwe }) => name(run, jwe, input));
  }
  let refusal: unknown;
  for (const { jwe } of ours) {
    try {
      return [name(run, jwe, input)];
    } catch (thrown) {
      if (!(thrown instanceof AgentError) || !PASSED_OVER.has(thrown.code)) throw thrown;
      refusal ??= thrown;
    }
  }
  if (refusal !== undefined) throw refusal;
  if (kids.some(({ kid }) => kid !== undefined)) {
    throw new AgentError('PERMISSION_DENIED', { message: 'the key belongs to another tenant' });
  }
  throw invalid(input.keyField ?? 'key', 'required, because no recipient of the jwe has a kid of this agent');
};

/** Each recipient with each version to try, asked for one by one, so that policy is asked only for what is tried. */
export function* recipientsToTry(run: Run, input: Input): Generator<Attempt, void, undefined> {
  let tried = 0;
  // What the others among several recipients use is not our matter; ours is held to the version's.
  if (input.recipients.length === 1) refuseForbidden(input.recipients[0]?.header.alg);
  const chosen = choose(run, input);
  for (const { jwe, named } of chosen) {
    const { alg } = jwe.header;
    const numbers = versionsToTry(named, (row) => row.jose === alg);
    if (numbers.length === 0 && chosen.length === 1) throw invalid('jwe', `no version of the key is for "${alg}"`);
    for (const number of numbers) {
      if (tried >= MAX_TRIED_VERSIONS) return;
      tried += 1;
      const version = run.process(named.key, number, input.part);
      if (version.jose !== alg) throw invalid('jwe', `header "alg" is not "${version.jose}", that of the key version`);
      yield { jwe, key: named.key, version };
    }
  }
}
