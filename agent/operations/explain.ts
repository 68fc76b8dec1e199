// Explain: by which rule a call of this caller would be allowed or denied, without making it. It asks the very steps
// of the chain that the call would go through, so the two cannot disagree.
import { algorithm, forbiddenAlgorithm, JOSE_NAMES } from '../../proto/documents/algorithms.ts';
import { primaryVersion } from '../../proto/documents/key-states.ts';
import { OPERATION_NAMES, type OperationName, operation } from '../../proto/documents/operations.ts';
import { asAgentError, type Code, invalid } from '../errors.ts';
import { type Performed, type Ports, perform, Run } from './perform.ts';
import type { Call } from './ports/call.ts';
import type { PolicyQuestion } from './ports/policy.ts';

export interface ExplainInput {
  readonly operation: string;
  /** Empty where the operation uses no key. */
  readonly key: string;
  /** Id or JOSE name; only where key is empty. */
  readonly algorithm: string;
}

export interface ExplainOutput {
  readonly allowed: boolean;
  readonly rule: string;
  readonly explanation: string;
  /** Empty where allowed. */
  readonly code: Code | '';
}

type Question = Omit<PolicyQuestion, 'tenant' | 'operation'>;

/** The step of the chain that gives each code, where it is not a rule of the policy. */
const RULES: Partial<Record<Code, string>> = {
  PERMISSION_DENIED: 'key.grants',
  KEY_UNKNOWN: 'key',
  KEY_STATE: 'key.state',
  INVALID_REQUEST: 'key.purpose',
  ALGORITHM_FORBIDDEN: 'forbidden',
};

const denied = (thrown: unknown): ExplainOutput => {
  const { code, message, metadata } = asAgentError(thrown);
  const rule = metadata['rule'] ?? RULES[code];
  if (rule === undefined) throw thrown;
  return { allowed: false, rule, explanation: message, code };
};

const nameOf = (input: ExplainInput): OperationName => {
  const name = OPERATION_NAMES.find((row) => row === input.operation);
  if (name === undefined) throw invalid('operation', 'not the name of an operation, such as "encrypt"');
  if (input.key !== '' && input.algorithm !== '') throw invalid('algorithm', 'must be empty where key is given');
  const known = [algorithm, forbiddenAlgorithm].some((find) => find(input.algorithm) !== undefined);
  if (input.algorithm !== '' && !known && !JOSE_NAMES.has(input.algorithm)) {
    throw invalid('algorithm', 'not an id of the algorithm table or a JOSE name');
  }
  return name;
};

/** What the chain would ask policy; throws where it would stop before that. */
const questionOf = (probe: Run, input: ExplainInput): Question => {
  if (input.key !== '') {
    const version = primaryVersion(probe.key(input.key));
    const { kind } = operation(probe.name);
    if (version === undefined || (kind !== 'apply' && kind !== 'process')) return {};
    return { algorithm: version.algorithm, jose: version.jose, custody: version.custody };
  }
  if (input.algorithm === '') return {};
  return algorithm(input.algorithm) === undefined ? { jose: input.algorithm } : { algorithm: input.algorithm };
};

const explainCall = (ports: Ports, call: Call, name: OperationName, input: ExplainInput): ExplainOutput => {
  const { scope: first, alsoScope } = operation(name);
  const scope = [first, alsoScope].find((row) => row != null && !call.caller.scopes.has(row));
  if (scope != null) {
    const explanation = `the caller does not have the scope ${scope}`;
    return { allowed: false, rule: 'caller.scopes', explanation, code: 'PERMISSION_DENIED' };
  }
  try {
    const probe = new Run(ports, call, name);
    const question = questionOf(probe, input);
    probe.decide(question);
    const { rule } = ports.policy.decide({ tenant: probe.tenant, operation: name, ...question });
    return { allowed: true, rule, explanation: `${name} is allowed by ${rule}`, code: '' };
  } catch (thrown) {
    return denied(thrown);
  }
};

export const explain = (ports: Ports, call: Call, input: ExplainInput): Promise<Performed<ExplainOutput>> =>
  perform(ports, call, 'explain', (run) => {
    const name = nameOf(input);
    if (input.key !== '') run.keyId(input.key);
    const answer = explainCall(ports, call, name, input);
    run.note({ explained: name, allowed: answer.allowed, rule: answer.rule });
    return answer;
  });
