// Values as the JSON output has them.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { jsonText } from '../../../clients/cli/output.ts';

test('JSON output has bytes, times and large numbers as text, and leaves out what is undefined', () => {
  const value = {
    bytes: Buffer.from([0xfb, 0xff]),
    array: Uint8Array.of(0xfb, 0xff),
    time: new Date(0),
    nothing: undefined,
    versions: [{ version: 2n }, { version: 2n ** 53n }],
  };
  assert.deepEqual(JSON.parse(jsonText(value)), {
    bytes: '-_8',
    array: '-_8',
    time: '1970-01-01T00:00:00.000Z',
    versions: [{ version: 2 }, { version: '9007199254740992' }],
  });
});
