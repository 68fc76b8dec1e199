import assert from 'node:assert/strict';
import { test } from 'node:test';
import { METHODS, type MethodName } from '../../clients/typescript/methods.ts';
import { delayBefore, isSafeToRepeat, RETRY_DEFAULTS, SAFE_TO_REPEAT } from '../../clients/typescript/retry.ts';

test('every rpc has a rule', () => {
  assert.ok(Object.keys(METHODS).length > 25);
  assert.deepEqual(Object.keys(SAFE_TO_REPEAT).sort(), Object.keys(METHODS).sort());
});

test('only what could act twice is not safe to repeat', () => {
  const never = (Object.keys(SAFE_TO_REPEAT) as MethodName[]).filter((name) => SAFE_TO_REPEAT[name] !== true);
  assert.deepEqual(never, ['updateKey', 'rotateKey', 'rotateTenantKek', 'importKey', 'batch']);
});

test('a rotation is safe to repeat only with expectedVersion', () => {
  const request = { key: 'k', algorithm: '', joseAlgorithm: '', acceptLoss: false };
  assert.equal(isSafeToRepeat('rotateKey', { ...request, expectedVersion: 0 }), false);
  assert.equal(isSafeToRepeat('rotateKey', { ...request, expectedVersion: 3 }), true);
});

test('an update is safe to repeat only with a revision', () => {
  const request = { key: 'k', labels: undefined, limits: undefined, grants: undefined };
  assert.equal(isSafeToRepeat('updateKey', { ...request, revision: 0n }), false);
  assert.equal(isSafeToRepeat('updateKey', { ...request, revision: 7n }), true);
});

test('waits double up to the longest, with jitter over the upper half', () => {
  const waits = (random: number) =>
    [1, 2, 3, 4, 5, 6, 7, 8].map((attempt) =>
      delayBefore(attempt, { retryAfterMs: undefined }, RETRY_DEFAULTS, random),
    );
  assert.deepEqual(waits(1), [50, 100, 200, 400, 800, 1600, 2000, 2000]);
  assert.deepEqual(waits(0), [25, 50, 100, 200, 400, 800, 1000, 1000]);
});

test('a wait is never shorter than the agent asks for', () => {
  assert.equal(delayBefore(1, { retryAfterMs: 4321 }, RETRY_DEFAULTS, 0), 4321);
  assert.equal(delayBefore(6, { retryAfterMs: 10 }, RETRY_DEFAULTS, 1), 1600);
});
