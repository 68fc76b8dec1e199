// Rewrap: changes who can open a General JSON JWE. Invariant: the payload is not decrypted, and where the content key moves
// between keys whose secrets are in the token, from RSA or AES to AES, it does not leave the token process.
import {
  buildGeneralJwe,
  isJsonJwe,
  type JsonJwe,
  type JsonRecipient,
  MAX_RECIPIENTS,
  parseJsonJwe,
} from '../crypto/general-jwe.ts';
import { AgentError, invalid } from '../errors.ts';
import { MAX_JOSE_BYTES, requireSize } from './jose/checks.ts';
import { wrapFrom } from './jose/move-content-key.ts';
import { noteSource, type SourceUsed, sidesOf } from './jose/parts.ts';
import { type Attempt, recipientsToTry } from './jose/recipients.ts';
import { type KeyUsed, keysUsed, noteTargets, type RecipientInput, takeTargets } from './jose/targets.ts';
import { type Performed, type Ports, perform, type Run } from './perform.ts';
import type { Call } from './ports/call.ts';

export interface RewrapInput {
  readonly jwe: string;
  /** Empty means that a kid of the JWE names it. */
  readonly sourceKey: string;
  readonly add: readonly RecipientInput[];
  /** Values of `kid`. */
  readonly remove: readonly string[];
}

export interface RewrapOutput extends SourceUsed {
  readonly jwe: string;
  readonly keysUsed: readonly KeyUsed[];
  /** Whether some content key moved, and none of them left the token process. */
  readonly insideToken: boolean;
}

/** Names of header members that belong to a recipient; where one is protected, the recipients cannot change. */
const OF_A_RECIPIENT = ['alg', 'kid', 'iv', 'tag', 'epk', 'apu', 'apv', 'ek'];

const readJwe = (text: string): JsonJwe => {
  requireSize('jwe', text.length, MAX_JOSE_BYTES);
  if (!isJsonJwe(text)) throw invalid('jwe', 'a Compact JWE has one recipient for ever; use ReEncrypt');
  const jwe = parseJsonJwe(text);
  const bound = OF_A_RECIPIENT.find((name) => name in jwe.protectedMembers || name in (jwe.sharedHeader ?? {}));
  if (bound !== undefined) throw invalid('jwe', `"${bound}" is common to all recipients; use ReEncrypt`);
  return jwe;
};

const without = (jwe: JsonJwe, { remove, add }: RewrapInput): readonly JsonRecipient[] => {
  if (remove.length === 0 && add.length === 0) throw invalid('add', 'nothing to add and nothing to remove');
  if (remove.length > MAX_RECIPIENTS) throw invalid('remove', `at most ${MAX_RECIPIENTS}`);
  const kids = new Set(jwe.recipients.map((row) => row.jwe.header.kid));
  for (const kid of remove) if (!kids.has(kid)) throw invalid('remove', 'names a kid that no recipient has');
  const kept = jwe.recipients.filter((row) => !remove.includes(row.jwe.header.kid ?? ''));
  if (kept.length + add.length === 0) throw invalid('remove', 'leaves no recipient');
  if (kept.length + add.length > MAX_RECIPIENTS) throw invalid('add', `more than ${MAX_RECIPIENTS} recipients in all`);
  return kept;
};

/** The first recipient is looked at before any target, so that who may not read spends no uses. */
const attemptsOf = (run: Run, jwe: JsonJwe, input: RewrapInput): { first: Attempt; rest: Iterator<Attempt> } => {
  const { source } = sidesOf(run, { read: 'decrypt', write: 'encrypt', sameKey: input.add.length === 0 });
  const recipients = jwe.recipients.map((row) => row.jwe);
  const rest = recipientsToTry(run, { recipients, key: input.sourceKey, keyField: 'source_key', part: source });
  const first = rest.next();
  if (first.done === true) throw new AgentError('INVALID_CIPHERTEXT');
  return { first: first.value, rest };
};

const addRecipients = async (
  ports: Ports,
  run: Run,
  jwe: JsonJwe,
  kept: readonly JsonRecipient[],
  input: RewrapInput,
) => {
  const { first, rest } = attemptsOf(run, jwe, input);
  const others = kept.map(({ jwe: { header } }) => header.alg);
  const targets = await takeTargets(ports, run, input.add, { field: 'add', others });
  let attempt = first;
  let moved = await wrapFrom(ports, run, attempt, targets);
  while (moved === undefined) {
    const next = rest.next();
    if (next.done === true) throw new AgentError('INVALID_CIPHERTEXT');
    attempt = next.value;
    moved = await wrapFrom(ports, run, attempt, targets);
  }
  const source = noteSource(run, attempt.key, attempt.version);
  run.used(attempt.key, attempt.version);
  noteTargets(run, targets);
  return { ...moved, source, targets };
};

export const rewrap = (ports: Ports, call: Call, input: RewrapInput): Promise<Performed<RewrapOutput>> =>
  perform(ports, call, 'rewrap', async (run) => {
    const jwe = readJwe(input.jwe);
    const kept = without(jwe, input);
    const { wraps, insideToken, source, targets } = await addRecipients(ports, run, jwe, kept, input);
    run.note({ added: wraps.length, removed: jwe.recipients.length - kept.length, insideToken });
    return { jwe: buildGeneralJwe(jwe, [...kept, ...wraps]), keysUsed: keysUsed(targets), insideToken, ...source };
  });
