import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Metadata, status } from '@grpc/grpc-js';
import fc from 'fast-check';
import { CODES, type Code } from '../../agent/errors.ts';
import { asMortiseError, MORTISE_ERROR_CODES, MortiseError } from '../../clients/typescript/errors.ts';
import { agentFailure } from './stub-agent.ts';

const agentCodes = Object.keys(CODES) as Code[];

test('the client knows every code of the agent, and one of its own', () => {
  assert.ok(agentCodes.length > 20);
  assert.deepEqual([...MORTISE_ERROR_CODES].sort(), [...agentCodes, 'AGENT_UNREACHABLE'].sort());
});

for (const code of agentCodes) {
  test(`${code} arrives as itself, ${CODES[code].retry ? 'retryable' : 'final'}`, () => {
    const error = asMortiseError(agentFailure(code), 'c-9');
    assert.ok(error instanceof MortiseError);
    assert.equal(error.code, code);
    assert.equal(error.reason, code);
    assert.equal(error.retryable, CODES[code].retry);
    assert.equal(error.message, CODES[code].text);
    assert.equal(error.correlationId, 'c-9');
  });
}

test('fields, metadata and the wait that the agent asks for are decoded', () => {
  const invalid = asMortiseError(
    agentFailure('INVALID_REQUEST', { fields: [{ field: 'key_id', description: 'is empty' }] }),
  );
  assert.deepEqual(invalid.fields, [{ field: 'key_id', description: 'is empty' }]);
  const denied = asMortiseError(agentFailure('POLICY_DENIED', { metadata: { rule: 'tenant.operations.sign' } }));
  assert.equal(denied.metadata['rule'], 'tenant.operations.sign');
  assert.equal(denied.retryAfterMs, undefined);
  assert.equal(asMortiseError(agentFailure('RATE_LIMITED', { retryAfterMs: 2500 })).retryAfterMs, 2500);
});

test('a code of a newer agent is INTERNAL and keeps its word in reason', () => {
  const error = asMortiseError(agentFailure('SOMETHING_NEW'));
  assert.equal(error.code, 'INTERNAL');
  assert.equal(error.reason, 'SOMETHING_NEW');
  assert.equal(error.retryable, false);
});

const bare = (code: status, details: string, metadata = new Metadata()) =>
  Object.assign(new Error(details), { code, details, metadata });

for (const [code, details, expected] of [
  [status.UNAVAILABLE, 'No connection established', 'AGENT_UNREACHABLE'],
  [status.INTERNAL, 'Received RST_STREAM with code 2', 'AGENT_UNREACHABLE'],
  [status.INTERNAL, 'something else', 'INTERNAL'],
  [status.DEADLINE_EXCEEDED, 'Deadline exceeded', 'DEADLINE_EXCEEDED'],
  [status.CANCELLED, 'Call cancelled', 'AGENT_UNREACHABLE'],
  [status.UNIMPLEMENTED, 'unknown method', 'UNIMPLEMENTED'],
  [status.RESOURCE_EXHAUSTED, 'Received message larger than max', 'TOO_LARGE'],
  [status.DATA_LOSS, 'hm', 'INTERNAL'],
] as const) {
  test(`a bare ${status[code]} ("${details}") is ${expected}`, () => {
    assert.equal(asMortiseError(bare(code, details)).code, expected);
  });
}

test('an ErrorInfo of another domain does not name the code', () => {
  const failure = agentFailure('KEY_UNKNOWN') as ReturnType<typeof bare>;
  const bytes = failure.metadata.get('grpc-status-details-bin')[0] as Buffer;
  const other = new Metadata();
  other.set('grpc-status-details-bin', Buffer.from(bytes.toString('latin1').replace('mortise', 'imposer'), 'latin1'));
  assert.equal(asMortiseError(bare(status.UNAVAILABLE, 'x', other)).code, 'AGENT_UNREACHABLE');
});

test('no bytes in the details trailer throw anything but the MortiseError', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
      const metadata = new Metadata();
      metadata.set('grpc-status-details-bin', Buffer.from(bytes));
      const error = asMortiseError(bare(status.UNAVAILABLE, 'x', metadata));
      assert.ok(error instanceof MortiseError);
      assert.ok(MORTISE_ERROR_CODES.includes(error.code));
    }),
    { seed: 1, numRuns: 500 },
  );
});

test('what is not a gRPC error is INTERNAL with its cause', () => {
  const cause = new TypeError('boom');
  const error = asMortiseError(cause);
  assert.equal(error.code, 'INTERNAL');
  assert.equal(error.cause, cause);
  assert.equal(asMortiseError(error), error);
});
