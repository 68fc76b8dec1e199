// The files of clients/conformance/cases, read strictly: a step that is not understood fails the test.
import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

type Json = Readonly<Record<string, unknown>>;

export type Step =
  | {
      readonly kind: 'call';
      readonly call: string;
      readonly arguments: Json;
      readonly expect?: Json;
      readonly error?: Json;
    }
  | { readonly kind: 'write-token'; readonly claims: Json }
  | { readonly kind: 'answers'; readonly answers: Readonly<Record<string, readonly Json[]>> }
  | { readonly kind: 'calls'; readonly calls: Readonly<Record<string, number>> }
  | { readonly kind: 'restart' };

export interface Case {
  readonly title: string;
  readonly connect: Json;
  readonly steps: readonly Step[];
}

export interface CaseFile {
  readonly title: string;
  readonly agent: 'live' | 'scripted';
  readonly cases: readonly Case[];
}

const FOLDER = join(import.meta.dirname, '../../../clients/conformance/cases');

const stepOf = (step: Json): Step => {
  const names = Object.keys(step).sort().join(' ');
  switch (names) {
    case 'arguments call expect':
    case 'arguments call error':
      return { kind: 'call', ...(step as { call: string; arguments: Json }) };
    case 'write-token':
      return { kind: 'write-token', claims: step['write-token'] as Json };
    case 'answers':
      return { kind: 'answers', answers: step['answers'] as Record<string, Json[]> };
    case 'calls':
      return { kind: 'calls', calls: step['calls'] as Record<string, number> };
    case 'restart':
      return { kind: 'restart' };
    default:
      throw new Error(`no step has the members ${names}`);
  }
};

/** Every file; fails where there is none. */
export const caseFiles = (): readonly CaseFile[] => {
  const names = readdirSync(FOLDER).filter((name) => name.endsWith('.json'));
  assert.ok(names.length > 0, `${FOLDER} is empty`);
  return names.map((name) => {
    const { title, agent, cases } = JSON.parse(readFileSync(join(FOLDER, name), 'utf8'));
    assert.ok(agent === 'live' || agent === 'scripted', `${name}: agent`);
    assert.ok(cases.length > 0, `${name}: no case`);
    return {
      title,
      agent,
      cases: cases.map((row: Case) => ({ ...row, steps: (row.steps as unknown as Json[]).map(stepOf) })),
    };
  });
};
