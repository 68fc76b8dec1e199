// What help says about algorithms, made from the one table of them, so that it names whatever the table does.
import { ALGORITHMS, type AlgorithmRow, type Purpose } from '../../proto/documents/algorithms.ts';

const COLUMNS = 100;
const INDENT = '  ';

/** Words joined by commas, in lines of a terminal. */
const wrap = (names: readonly string[]): string => {
  const lines: string[] = [];
  let line = '';
  for (const [index, name] of names.entries()) {
    const word = index === names.length - 1 ? name : `${name},`;
    if (line !== '' && INDENT.length * 2 + line.length + 1 + word.length > COLUMNS) {
      lines.push(line);
      line = '';
    }
    line = line === '' ? word : `${line} ${word}`;
  }
  return [...lines, line].map((text) => INDENT + INDENT + text).join('\n');
};

const serving = (purpose: Purpose): readonly AlgorithmRow[] =>
  ALGORITHMS.filter((row) => row.status !== 'forbidden' && row.jose[purpose] !== undefined);

const idsOf = (rows: readonly AlgorithmRow[]): string => wrap(rows.map(({ id }) => id));

/** Composites are over a pre-hash (LAMPS), RSA and ECDSA over a hash (RFC 7518); what is left signs the message itself. */
export const signsDigest = (row: AlgorithmRow): boolean =>
  row.components !== undefined || row.jose.sign?.some((name) => /^[RPE]S\d/.test(name)) === true;

const PURPOSES: readonly Purpose[] = ['encrypt', 'sign', 'mac'];

/** Appended to the help of what makes keys. */
export const algorithmHelp = (): string => {
  const lists = PURPOSES.map((purpose) => `${INDENT}${purpose}\n${idsOf(serving(purpose))}`);
  const experimental = ALGORITHMS.filter(({ status }) => status === 'experimental').map(({ id }) => id);
  const note =
    experimental.length === 0
      ? ''
      : `\n${INDENT}experimental: no template of policies allows them\n${wrap(experimental)}`;
  return `\nAlgorithms by purpose; which of them are allowed is for the policy to say:\n${lists.join('\n')}${note}`;
};

/** Appended to the help of `sign`. */
export const digestHelp = (): string => {
  const [digests, messages] = [true, false].map((wanted) =>
    serving('sign').filter((row) => signsDigest(row) === wanted),
  );
  return ['\nSign digests, too (--digest):', idsOf(digests ?? []), 'Sign messages alone:', idsOf(messages ?? [])].join(
    '\n',
  );
};
