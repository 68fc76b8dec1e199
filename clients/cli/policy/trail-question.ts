// What the agent asks policy for an operation, read back from its audit record. The record has the JOSE name and the key
// version; the algorithm and the custody come from the catalogue. Where that is not at hand, every key that the JOSE name
// can mean is asked for.
import { ALGORITHMS, type Custody } from '../../../proto/documents/algorithms.ts';
import { OPERATIONS, type OperationName, operation } from '../../../proto/documents/operations.ts';
import type { PolicyQuestion } from '../../../proto/documents/policy-decide.ts';

/** The fields of an audit record that a rehearsal reads. */
export interface TrailRecord {
  readonly tenant: string;
  readonly principal: string;
  /** "<key id>/<version>", "<key id>" or "-". */
  readonly key: string;
  readonly algorithm: string;
  readonly operation: string;
  readonly outcome: string;
  readonly time: string;
  readonly detail: string;
}

/** What the catalogue says of a key version. */
export interface KnownVersion {
  readonly algorithm: string;
  readonly jose: string;
  readonly custody: Custody;
}

/** "<tenant>/<key id>/<version>" → what is known. */
export type Catalogue = ReadonlyMap<string, KnownVersion>;

/** One decision of the agent: the questions that it may have been; more than one where the key is not known. */
export type Candidates = readonly PolicyQuestion[];

export const isOperation = (name: string): name is OperationName => Object.hasOwn(OPERATIONS, name);

interface Use {
  readonly algorithm: string;
  readonly jose: string;
  readonly custody?: Custody;
}

/** Every key that can have done work under this JOSE name. */
const usesOf = (jose: string): readonly Use[] =>
  ALGORITHMS.filter((row) => Object.values(row.jose).some((names) => names.includes(jose))).flatMap(({ id, custody }) =>
    custody.map((place) => ({ algorithm: id, jose, custody: place })),
  );

class Reading {
  readonly #record: TrailRecord;
  readonly #catalogue: Catalogue;
  readonly #detail: Readonly<Record<string, unknown>>;

  constructor(record: TrailRecord, catalogue: Catalogue) {
    this.#record = record;
    this.#catalogue = catalogue;
    const detail: unknown = record.detail === '' ? {} : JSON.parse(record.detail);
    this.#detail = typeof detail === 'object' && detail !== null ? (detail as Record<string, unknown>) : {};
  }

  text(name: string): string | undefined {
    const value = this.#detail[name];
    return typeof value === 'string' ? value : undefined;
  }

  texts(name: string): readonly string[] {
    const value = this.#detail[name];
    return Array.isArray(value) ? value.filter((item) => typeof item === 'string') : [];
  }

  known(key: string): KnownVersion | undefined {
    return this.#catalogue.get(`${this.#record.tenant}/${key}`);
  }

  /** Questions of one operation about a key version, or about a JOSE name where there is no key. */
  about(name: OperationName, key: string, jose: string): Candidates {
    const { tenant } = this.#record;
    const known = this.known(key);
    const custody = this.text('custody');
    if (known !== undefined) return [{ tenant, operation: name, ...known, jose }];
    const uses = usesOf(jose);
    const fitting = custody === undefined ? uses : uses.filter((use) => use.custody === custody);
    if (fitting.length > 0) return fitting.map((use) => ({ tenant, operation: name, ...use }));
    // Algorithms that no JOSE name stands for, such as that of a KEK.
    return [{ tenant, operation: name, algorithm: jose }];
  }

  /** A key that the caller brought is in no custody of ours. */
  foreign(name: OperationName, jose: string): Candidates {
    const { tenant } = this.#record;
    return [...new Set(usesOf(jose).map(({ algorithm }) => algorithm))].map((id) => ({
      tenant,
      operation: name,
      algorithm: id,
      jose,
    }));
  }
}

/** The key that the data was read with. */
const source = (reading: Reading, as: OperationName): readonly Candidates[] => {
  const version = reading.text('source');
  const jose = reading.text('sourceAlgorithm');
  return version === undefined || jose === undefined ? [] : [reading.about(as, version, jose)];
};

/** A key that new data is written with: what writing alone needs, and what the operation needs. */
const target = (reading: Reading, as: OperationName, { operation: name, key, algorithm }: TrailRecord) =>
  [as, name as OperationName].map((asked) => reading.about(asked, key, algorithm));

/** Each recipient that is a key of the tenant; any other stands as a thumbprint, which tells no algorithm. */
const recipients = (reading: Reading, record: TrailRecord): readonly Candidates[] => {
  const keys = reading.texts('recipients').filter((name) => name.includes('/'));
  return keys.flatMap((key) => {
    const algorithm = key === record.key ? record.algorithm : reading.known(key)?.jose;
    return algorithm === undefined ? [] : target(reading, 'encrypt', { ...record, key, algorithm });
  });
};

/** Of a stream whose content key was given to the client: the question about that; undefined for any other record. */
export const streamKeyQuestion = (record: TrailRecord, catalogue: Catalogue): Candidates | undefined => {
  const reading = new Reading(record, catalogue);
  if (reading.text('localStream') === undefined) return undefined;
  const as = record.operation === 'encrypt' ? 'generate-data-key' : 'decrypt-data-key';
  return reading.about(as, record.key, record.algorithm);
};

/** Every decision that the agent took for the operation of this record; all of them have to be favourable. */
export const questionsOf = (record: TrailRecord, catalogue: Catalogue): readonly Candidates[] => {
  const { tenant, operation: name, key, algorithm: jose } = record;
  if (!isOperation(name)) return [];
  if (operation(name).algorithm !== true) return [[{ tenant, operation: name }]];
  if (jose === '-') return []; // ended before it came to an algorithm
  const reading = new Reading(record, catalogue);
  switch (name) {
    case 're-encrypt':
      return [...source(reading, 'decrypt'), ...target(reading, 'encrypt', record)];
    case 're-sign':
      return [...source(reading, 'verify'), ...target(reading, 'sign', record)];
    case 'rewrap':
      return [...source(reading, 'decrypt'), ...recipients(reading, record)];
    case 'encrypt-general':
      return key === '-' ? [reading.foreign(name, jose)] : recipients(reading, record);
    case 'encrypt-to':
    case 'verify-with':
      return [reading.foreign(name, jose)];
    default:
      return [reading.about(name, key, jose)];
  }
};
