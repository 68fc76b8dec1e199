// The strictness of the JOSE parsers: one spelling, one reading, everything bounded; and fuzz: whatever the bytes, an
// AgentError or a value, never anything else.
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { decodeBase64url, encodeBase64url } from '../../../agent/crypto/base64url.ts';
import {
  CONTENT_ENCRYPTIONS,
  type ContentEncryption,
  DEFAULT_ENC,
  decryptContent,
  encryptContent,
} from '../../../agent/crypto/content-encryption.ts';
import { buildCompactJwe, buildJweHeader, parseCompactJwe } from '../../../agent/crypto/jwe.ts';
import { buildCompactJws, buildJwsHeader, jwsSigningInput, parseCompactJws } from '../../../agent/crypto/jws.ts';
import { parseKeyManagement } from '../../../agent/crypto/key-management.ts';
import { parseJsonObject } from '../../../agent/crypto/strict-json.ts';
import { AgentError } from '../../../agent/errors.ts';

const encode = (value: unknown): string =>
  Buffer.from(typeof value === 'string' ? value : JSON.stringify(value)).toString('base64url');
const refused = (act: () => unknown, about: RegExp): void =>
  assert.throws(act, (thrown: unknown) => {
    assert.ok(thrown instanceof AgentError, String(thrown));
    assert.equal(thrown.code, 'INVALID_REQUEST');
    assert.match(thrown.message, about);
    return true;
  });
const onlyAgentErrors = (act: () => unknown): void => {
  try {
    act();
  } catch (thrown) {
    assert.ok(thrown instanceof AgentError && thrown.code === 'INVALID_REQUEST', String(thrown));
  }
};

test('base64url has one spelling', () => {
  fc.assert(
    fc.property(fc.uint8Array(), (bytes) => {
      const text = encodeBase64url(bytes);
      assert.ok(decodeBase64url(text)?.equals(bytes));
      assert.equal(decodeBase64url(`${text}=`), undefined);
    }),
  );
  for (const text of ['A', 'AB', 'AAB', 'AA==', 'AA A', 'A+AA', 'A/AA', 'AA\n', 'AA.', 'ÄÄ', '\0']) {
    assert.equal(decodeBase64url(text), undefined, text);
  }
  assert.equal(decodeBase64url('')?.length, 0);
});

describe('strict JSON', () => {
  test('reads objects as JSON.parse does, without a prototype', () => {
    fc.assert(
      fc.property(fc.dictionary(fc.string(), fc.jsonValue({ maxDepth: 3 })), (value) => {
        const parsed = parseJsonObject(JSON.stringify(value));
        assert.deepEqual({ ...parsed }, JSON.parse(JSON.stringify(value)));
        assert.equal(Object.getPrototypeOf(parsed), null);
      }),
    );
  });

  test('refuses a member that comes twice, however it is spelled and wherever it is', () => {
    for (const text of [
      '{"a":1,"a":2}',
      '{"a":1,"\\u0061":2}',
      '{"a":{"b":1,"b":1}}',
      '{"a":[{"b":1},{"b":1,"c":[],"b":2}]}',
      '{"a\\"b":1,"a\\u0022b":1}',
      '{"__proto__":1,"__proto__":2}',
    ]) {
      assert.equal(parseJsonObject(text), undefined, text);
    }
    for (const text of ['{"a":[{"b":1},{"b":2}],"b":{"a":1}}', '{"a":"a","b":"a"}', '{"a":"{\\"a\\":1,"}', '{}']) {
      assert.ok(parseJsonObject(text), text);
    }
  });

  test('a "__proto__" member is a member and nothing else', () => {
    const parsed = parseJsonObject('{"__proto__":{"alg":"none"}}');
    assert.equal(parsed?.['alg'], undefined);
    assert.deepEqual(Object.keys(parsed ?? {}), ['__proto__']);
  });

  test('refuses what is not an object, and deep nesting', () => {
    for (const text of [
      '',
      'null',
      '1',
      '"a"',
      '[]',
      '{',
      '{"a":1}x',
      '{a:1}',
      `{"a":${'['.repeat(8)}${']'.repeat(8)}}`,
    ]) {
      assert.equal(parseJsonObject(text), undefined, text);
    }
    assert.equal(parseJsonObject(`{"a":${'['.repeat(4000)}`), undefined);
  });
});

describe('Compact JWE', () => {
  const header = { alg: 'RSA-OAEP-256', enc: 'A256GCM' };
  const [iv, tag, empty] = [encode('x'.repeat(12)), encode('x'.repeat(16)), ''];
  const jweOf = (members: unknown, ...rest: string[]): string =>
    [encode(members), ...(rest.length > 0 ? rest : [empty, iv, empty, tag])].join('.');
  const parse = (members: unknown, ...rest: string[]) => parseCompactJwe(jweOf(members, ...rest));

  test('what was built parses to the same parts', () => {
    fc.assert(
      fc.property(
        fc.uint8Array({ maxLength: 512 }),
        fc.uint8Array({ maxLength: 2000 }),
        fc.string({ maxLength: 100 }),
        (key, text, kid) => {
          const protectedSegment = buildJweHeader({ ...header, kid });
          const parts = {
            protectedSegment,
            encryptedKey: Buffer.from(key),
            iv: randomBytes(12),
            ciphertext: Buffer.from(text),
            tag: randomBytes(16),
          };
          const { header: read, enc, ...rest } = parseCompactJwe(buildCompactJwe(parts));
          assert.deepEqual(rest, parts);
          assert.deepEqual([read.alg, read.kid, enc.name], ['RSA-OAEP-256', kid, 'A256GCM']);
        },
      ),
    );
  });

  test('has five segments of canonical base64url', () => {
    const good = jweOf(header);
    for (const text of ['', '.', '....', good.slice(0, good.lastIndexOf('.')), `${good}.`, `${good}.${tag}`]) {
      refused(() => parseCompactJwe(text), /five segments|header/);
    }
    for (const index of [1, 2, 3, 4]) {
      const segments = good.split('.');
      segments[index] = `${segments[index]}=`;
      refused(() => parseCompactJwe(segments.join('.')), /base64url/);
    }
    refused(() => parseCompactJwe('.'.repeat(3_000_000)), /five segments/);
  });

  test('its header is a small object with string members', () => {
    for (const members of ['[]', 'null', '{"alg":"dir","alg":"dir","enc":"A256GCM"}', 'not json', '{}']) {
      refused(() => parse(members), /header/);
    }
    for (const change of [{ alg: 1 }, { alg: '' }, { alg: 'x'.repeat(65) }, { kid: 7 }, { kid: 'x'.repeat(513) }]) {
      refused(() => parse({ ...header, ...change }), /"alg"|"kid"/);
    }
    refused(() => parse({ ...header, filler: 'x'.repeat(8192) }), /8 KiB/);
    refused(() => parse(Buffer.from([0x7b, 0xff, 0x7d]).toString('latin1')), /header/);
    refused(() => parse(`\ufeff${JSON.stringify(header)}`), /JSON object/);
    const latin1 = Buffer.from([0x7b, 0x22, 0xff, 0x22, 0x3a, 0x31, 0x7d]).toString('base64url');
    refused(() => parseCompactJwe([latin1, empty, iv, empty, tag].join('.')), /UTF-8/);
  });

  test('enc is known, zip is refused, iv and tag have their lengths', () => {
    refused(() => parse({ alg: 'dir' }), /"enc"/);
    refused(() => parse({ ...header, enc: 'A256CTR' }), /"enc"/);
    refused(() => parse({ ...header, enc: ['A256GCM'] }), /"enc"/);
    refused(() => parse({ ...header, zip: 'DEF' }), /"zip"/);
    refused(() => parse(header, empty, encode('x'.repeat(16)), empty, tag), /iv/);
    refused(() => parse(header, empty, iv, empty, encode('x'.repeat(15))), /tag/);
    refused(() => parse(header, empty, iv, empty, encode('x'.repeat(4))), /tag/);
    refused(() => parse(header, encode('x'.repeat(2049)), iv, empty, tag), /encrypted key/);
  });

  test('crit is understood whole or refused', () => {
    const aad = 'urn:mortise:aad:s256';
    for (const crit of [[], 'alg', [aad], [7], [aad, aad], ['alg'], ['exp'], ['b64'], {}, null]) {
      refused(() => parse({ ...header, exp: 1, b64: true, crit }), /"crit"/);
    }
    refused(() => parse({ ...header, [aad]: 'x', crit: [aad, aad] }), /"crit"/);
    refused(() => parse({ ...header, [aad]: 'x', exp: 1, crit: [aad, 'exp'] }), /"crit"/);
    assert.ok(parse({ ...header, [aad]: 'x', crit: [aad] }).header.critical.has(aad));
  });

  test('key management parameters are checked against the algorithm of the key', () => {
    const manage = (members: object, jose: string, crv?: string) => parseKeyManagement(parse(members), jose, crv);
    const gcm = { ...header, iv, tag };
    assert.equal(manage(gcm, 'A256GCMKW').kind, 'gcm');
    for (const change of [
      { iv: undefined },
      { tag: undefined },
      { iv: tag },
      { tag: iv },
      { iv: 1 },
      { tag: `${tag}=` },
    ]) {
      refused(() => manage({ ...gcm, ...change }, 'A256GCMKW'), /"iv"|"tag"/);
    }
    for (const jose of ['dir', 'A256KW', 'ES256', 'RSA1_5']) refused(() => manage(gcm, jose), /"alg"/);
    refused(() => manage({ ...gcm, epk: { kty: 'EC' } }, 'ECDH-ES+A256KW', 'P-256'), /"epk"/);
  });

  test('fuzz: parts of a JWE, changed at random', () => {
    const member = fc.oneof(fc.string({ maxLength: 20 }), fc.jsonValue({ maxDepth: 2 }), fc.constantFrom(iv, tag));
    const names = fc.constantFrom('alg', 'enc', 'kid', 'crit', 'zip', 'epk', 'apu', 'apv', 'iv', 'tag', '__proto__');
    const headers = fc.oneof(fc.dictionary(names, member), fc.constant(header), fc.jsonValue());
    const segment = fc.oneof(fc.base64String({ maxLength: 40 }), fc.constantFrom(iv, tag, empty), fc.string());
    fc.assert(
      fc.property(headers, fc.array(segment, { minLength: 3, maxLength: 5 }), fc.boolean(), (members, rest, isEc) => {
        onlyAgentErrors(() => {
          const merged = typeof members === 'object' && members !== null ? { ...header, ...members } : members;
          const jwe = parse(merged, ...rest);
          parseKeyManagement(jwe, isEc ? 'ECDH-ES+A256KW' : 'A256GCMKW', isEc ? 'P-256' : undefined);
        });
      }),
      { numRuns: 2000 },
    );
  });

  test('fuzz: any text', () => {
    fc.assert(
      fc.property(
        fc.oneof(fc.string({ maxLength: 300 }), fc.string({ unit: fc.constantFrom('.', 'e', 'y', 'J', '=', 'é') })),
        (text) => onlyAgentErrors(() => parseCompactJwe(text)),
      ),
      { numRuns: 2000 },
    );
  });
});

describe('Compact JWS', () => {
  const parse = (members: unknown, payload: string, signature = 'AAAA') =>
    parseCompactJws(`${encode(members)}.${payload}.${signature}`);

  test('what was built parses to the same parts', () => {
    fc.assert(
      fc.property(fc.uint8Array(), fc.boolean(), fc.boolean(), (bytes, isDetached, encoded) => {
        const payload = isDetached || !encoded ? undefined : Buffer.from(bytes);
        const header = buildJwsHeader({ alg: 'ES256', kid: 'acme/k/1', encoded });
        const jws = parseCompactJws(buildCompactJws(header, payload, Buffer.from(bytes)));
        assert.deepEqual(jws.payload, payload?.length === 0 ? undefined : payload);
        assert.equal(jws.encoded, encoded);
        assert.ok(jws.signature.equals(bytes));
      }),
    );
  });

  test('the signing input is the header and the payload, encoded or not', () => {
    assert.equal(jwsSigningInput('aGVhZGVy', Buffer.from('a.b'), true).toString(), 'aGVhZGVy.YS5i');
    assert.equal(jwsSigningInput('aGVhZGVy', Buffer.from('a.b'), false).toString(), 'aGVhZGVy.a.b');
  });

  test('b64 must be critical and boolean, and an unencoded payload detached', () => {
    const alg = 'ES256';
    assert.equal(parse({ alg, b64: false, crit: ['b64'] }, '').encoded, false);
    assert.equal(parse({ alg, b64: true, crit: ['b64'] }, 'YQ').encoded, true);
    refused(() => parse({ alg, b64: false }, ''), /"b64"/);
    refused(() => parse({ alg, b64: 'false', crit: ['b64'] }, ''), /"b64"/);
    refused(() => parse({ alg, crit: ['b64'] }, ''), /"crit"/);
    refused(() => parse({ alg, b64: false, crit: ['b64'] }, 'YQ'), /detached/);
  });

  test('has three segments of canonical base64url and a bounded signature', () => {
    for (const text of ['', '.', '..', 'a.b', 'e30..', 'e30...', 'e30.YQ.YQ.YQ.YQ']) {
      refused(() => parseCompactJws(text), /segments|header/);
    }
    refused(() => parse({ alg: 'ES256' }, 'YR'), /payload/);
    refused(() => parse({ alg: 'ES256' }, 'YQ', 'YR'), /signature/);
    refused(() => parse({ alg: 'ES256' }, '', 'A'.repeat(90_000)), /64 KiB/);
  });

  test('fuzz: parts of a JWS, changed at random, and any text', () => {
    const names = fc.constantFrom('alg', 'kid', 'crit', 'b64', 'typ', '__proto__');
    const members = fc.dictionary(names, fc.oneof(fc.jsonValue({ maxDepth: 2 }), fc.constant(['b64']), fc.boolean()));
    const segment = fc.oneof(fc.base64String({ maxLength: 40 }), fc.string({ maxLength: 20 }));
    fc.assert(
      fc.property(members, segment, segment, (header, payload, signature) =>
        onlyAgentErrors(() => parse({ alg: 'ES256', ...header }, payload, signature)),
      ),
      { numRuns: 2000 },
    );
    fc.assert(fc.property(fc.string({ maxLength: 300 }), (text) => onlyAgentErrors(() => parseCompactJws(text))));
  });
});

describe('content encryption', () => {
  test('A256GCM opens what it sealed, and nothing that differs in a bit', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 300 }), fc.string(), fc.nat(), (bytes, text, at) => {
        const aad = Buffer.from(text).toString('base64url');
        const [cek, nonce, plaintext] = [randomBytes(32), randomBytes(12), Buffer.from(bytes)];
        const sealed = encryptContent({ cek, iv: nonce, aad, plaintext });
        assert.ok(decryptContent(DEFAULT_ENC, cek, aad, sealed)?.equals(plaintext));
        for (const name of ['iv', 'ciphertext', 'tag'] as const) {
          const changed = Buffer.from(sealed[name]);
          if (changed.length === 0) continue;
          const place = at % changed.length;
          changed[place] = (changed[place] as number) ^ (1 << (at % 8));
          assert.equal(decryptContent(DEFAULT_ENC, cek, aad, { ...sealed, [name]: changed }), undefined, name);
        }
        assert.equal(decryptContent(DEFAULT_ENC, cek, `${aad}A`, sealed), undefined);
        assert.equal(decryptContent(DEFAULT_ENC, randomBytes(32), aad, sealed), undefined);
      }),
    );
  });

  test('a ciphertext that cannot be CBC is a failure, not an exception', () => {
    for (const enc of CONTENT_ENCRYPTIONS.values() as Iterable<ContentEncryption>) {
      const cek = randomBytes(enc.cekBytes);
      for (const length of [0, 1, 15, 16, 17]) {
        const sealed = {
          iv: randomBytes(enc.ivBytes),
          ciphertext: randomBytes(length),
          tag: randomBytes(enc.tagBytes),
        };
        assert.equal(decryptContent(enc, cek, 'e30', sealed), undefined);
      }
    }
  });
});
