import assert from 'node:assert/strict';
import { test } from 'node:test';
import { status } from '@grpc/grpc-js';
import fc from 'fast-check';
import { AgentError, CODES, type Code, invalid } from '../../../agent/errors.ts';
import { operationOf } from '../../../agent/server/operation-of.ts';
import { grpcStatusOf } from '../../../agent/server/status.ts';
import { OPERATION_NAMES } from '../../../proto/documents/operations.ts';
import { AuditServiceService } from '../../../proto/gen/mortise/agent/v1/audit.ts';
import { CryptoServiceService } from '../../../proto/gen/mortise/agent/v1/crypto.ts';
import { KeysServiceService } from '../../../proto/gen/mortise/agent/v1/keys.ts';
import { PipelineServiceService } from '../../../proto/gen/mortise/agent/v1/pipeline.ts';
import { StatusServiceService } from '../../../proto/gen/mortise/agent/v1/status.ts';
import { detailsOf } from './support.ts';

test('every code becomes its gRPC status with itself as reason', () => {
  const codes = Object.keys(CODES) as Code[];
  assert.ok(codes.length > 20);
  for (const code of codes) {
    const sent = grpcStatusOf(new AgentError(code), 'c');
    assert.equal(status[sent.code], CODES[code].grpc);
    assert.equal(sent.details, CODES[code].text);
    const details = detailsOf(sent);
    assert.deepEqual([details.code, details.reason, details.domain], [sent.code, code, 'mortise']);
  }
});

test('wrong fields are named', () => {
  const sent = grpcStatusOf(invalid('key', 'is required'), 'c');
  assert.deepEqual(detailsOf(sent).fields, [{ field: 'key', description: 'is required' }]);
});

test('a time to wait leaves only with codes that a repeat may help', () => {
  const waits = (code: Code) => detailsOf(grpcStatusOf(new AgentError(code, { retryAfterMs: 1500.5 }), 'c')).retryDelay;
  assert.deepEqual(waits('HSM_BUSY'), { seconds: 1n, nanos: 501_000_000 });
  assert.equal(waits('KEY_UNKNOWN'), undefined);
});

test('a cause never leaves', () => {
  const cause = new Error('the secret', { cause: new Error('the other secret') });
  const sent = grpcStatusOf(new AgentError('INTERNAL', { cause }), 'c');
  const bytes = sent.metadata.get('grpc-status-details-bin')[0] as Buffer;
  assert.doesNotMatch(`${sent.details} ${bytes.toString('latin1')}`, /secret/);
});

test('whatever a message holds, what leaves is plain, short and fits into trailers', () => {
  const text = fc.oneof(fc.string({ unit: 'binary', maxLength: 3000 }), fc.constant('\ud800%00\r\n'));
  fc.assert(
    fc.property(text, fc.array(fc.tuple(text, text), { maxLength: 20 }), (message, pairs) => {
      const fields = pairs.map(([field, description]) => ({ field, description }));
      const metadata = Object.fromEntries(pairs);
      const sent = grpcStatusOf(new AgentError('INVALID_REQUEST', { message, fields, metadata }), 'c');
      assert.match(sent.details, /^[\x20-\x7e]{0,512}$/);
      encodeURI(sent.details); // as grpc-js does; throws for lone surrogates
      assert.ok((sent.metadata.get('grpc-status-details-bin')[0] as Buffer).length < 6000);
    }),
  );
});

test('every RPC is an operation of the table, and every operation an RPC', () => {
  const services = [
    AuditServiceService,
    CryptoServiceService,
    KeysServiceService,
    PipelineServiceService,
    StatusServiceService,
  ];
  const paths = services.flatMap((rows) => Object.values(rows).map(({ path }) => path as string));
  assert.deepEqual(paths.map(operationOf).sort(), [...OPERATION_NAMES].sort());
  for (const path of ['/grpc.health.v1.Health/Check', '/mortise.agent.v1.CryptoService/Nothing', '', '/']) {
    assert.equal(operationOf(path), undefined);
  }
});
