// EncryptGeneral, Rewrap and Decrypt of the JSON serialization, with a fake token; jose (npm) reads and writes the other
// side.
import assert from 'node:assert/strict';
import { generateKeyPairSync, type JsonWebKey, randomBytes } from 'node:crypto';
import { beforeEach, describe, test } from 'node:test';
import fc from 'fast-check';
import { FlattenedEncrypt, GeneralEncrypt, generalDecrypt, importJWK } from 'jose';
import { parseJsonJwe } from '../../../agent/crypto/general-jwe.ts';
import { AgentError, type Code } from '../../../agent/errors.ts';
import { decrypt } from '../../../agent/operations/decrypt.ts';
import { encryptGeneral } from '../../../agent/operations/encrypt-general.ts';
import type { RecipientInput } from '../../../agent/operations/jose/targets.ts';
import { type RewrapInput, rewrap } from '../../../agent/operations/rewrap.ts';
import { FakeToken } from '../../fakes/token.ts';
import { aCall, CryptoWorld } from './crypto-world.ts';

const plaintext = Buffer.from('One for the Dark Lord on his dark throne');
const none = Buffer.alloc(0);

const fails = (promise: Promise<unknown>, code: Code, about?: RegExp): Promise<void> =>
  assert.rejects(promise, (thrown: unknown) => {
    assert.ok(thrown instanceof AgentError, String(thrown));
    assert.equal(thrown.code, code, thrown.message);
    if (about !== undefined) assert.match(thrown.message, about);
    return true;
  });

interface Json {
  protected: string;
  unprotected?: Record<string, unknown>;
  recipients: { header: Record<string, unknown>; encrypted_key: string }[];
  iv: string;
  ciphertext: string;
  tag: string;
  aad?: string;
}

let token: FakeToken;
let world: CryptoWorld;
let outsider: { publicJwk: string; privateJwk: JsonWebKey };
beforeEach(async () => {
  token = new FakeToken();
  world = new CryptoWorld(token);
  for (const [keyId, algorithm] of [
    ['aes', 'AES-256'],
    ['aes-2', 'AES-128'],
    ['rsa', 'RSA-2048'],
    ['ec', 'EC-P256'],
  ] as const) {
    await world.add({ keyId, algorithm, purpose: 'encrypt' });
  }
  const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-384' });
  outsider = {
    publicJwk: JSON.stringify({ ...publicKey.export({ format: 'jwk' }), kid: 'outsider' }),
    privateJwk: privateKey.export({ format: 'jwk' }),
  };
});

const seal = async (recipients: readonly RecipientInput[], associatedData = none): Promise<string> =>
  (await encryptGeneral(world.ports, aCall(), { recipients, plaintext, associatedData })).value.jwe;
const keys = (...names: string[]): RecipientInput[] => names.map((key) => ({ key }));
const open = async (jwe: string, key = '', associatedData = none): Promise<Buffer> =>
  (await decrypt(world.ports, aCall(), { jwe, key, associatedData })).value.plaintext;
const change = (jwe: string, by: (json: Json) => unknown): string => {
  const json = JSON.parse(jwe) as Json;
  return JSON.stringify(by(json) ?? json);
};
const headerOf = (jwe: string) => JSON.parse(Buffer.from((JSON.parse(jwe) as Json).protected, 'base64url').toString());
const rewrapped = async (input: Partial<RewrapInput> & { jwe: string }, call = aCall()) =>
  rewrap(world.ports, call, { sourceKey: '', add: [], remove: [], ...input });

describe('General JSON JWE', () => {
  test('each recipient opens it, own keys and others', async () => {
    const jwe = await seal([...keys('aes', 'rsa', 'ec'), { publicJwk: outsider.publicJwk }]);
    for (const key of ['aes', 'rsa', 'ec']) assert.deepEqual(await open(jwe, key), plaintext);
    const theirs = await generalDecrypt(JSON.parse(jwe), await importJWK(outsider.privateJwk, 'ECDH-ES+A256KW'));
    assert.deepEqual(Buffer.from(theirs.plaintext), plaintext);
    assert.deepEqual(headerOf(jwe), { enc: 'A256GCM' });
  });

  test('the envelope names the first key, the answer all, the record all recipients', async () => {
    const recipients = [{ publicJwk: outsider.publicJwk }, ...keys('rsa', 'aes')];
    const input = { recipients, plaintext, associatedData: none };
    const { value, envelope } = await encryptGeneral(world.ports, aCall(), input);
    assert.deepEqual(envelope.keyUsed, { keyId: 'rsa', version: 1 });
    assert.deepEqual(value.keysUsed, [
      { keyId: 'rsa', version: 1 },
      { keyId: 'aes', version: 1 },
    ]);
    const names = world.lastRecord.detail?.['recipients'] as string[];
    assert.deepEqual([names.length, ...names.slice(1)], [3, 'rsa/1', 'aes/1']);
    assert.equal(world.lastRecord.key, 'rsa/1');
  });

  test('asks policy and grants as Encrypt does for each key, and as EncryptTo for each public key', async () => {
    world.questions.length = 0;
    await seal([{ key: 'aes' }, { publicJwk: outsider.publicJwk }]);
    const asked = world.questions.map((row) => `${row.operation} ${row.algorithm}`).sort();
    assert.deepEqual(asked, [
      'encrypt AES-256',
      'encrypt-general AES-256',
      'encrypt-general EC-P384',
      'encrypt-to EC-P384',
    ]);
    world.change('aes', { grants: [{ principal: 'app', operations: ['decrypt'] }] });
    await fails(seal(keys('ec', 'aes')), 'PERMISSION_DENIED');
    assert.equal(world.uses, 1); // the other key of the refused call lost no use
  });

  test('refuses no recipient, a repeated one, more than 32, and one that does not encrypt', async () => {
    await fails(seal([]), 'INVALID_REQUEST');
    await fails(seal([undefined]), 'INVALID_REQUEST');
    await fails(seal(keys('aes', 'acme/aes')), 'INVALID_REQUEST', /twice/);
    await fails(seal(Array.from({ length: 33 }, (_, index) => ({ key: `k${index}` }))), 'INVALID_REQUEST');
    const ed = generateKeyPairSync('ed25519').publicKey.export({ format: 'jwk' });
    await fails(seal([{ publicJwk: JSON.stringify(ed) }]), 'INVALID_REQUEST');
    await fails(seal([{ publicJwk: JSON.stringify(outsider.privateJwk) }]), 'INVALID_REQUEST', /private/);
  });

  test('associated data is bound to the content', async () => {
    const associatedData = Buffer.from('invoice 9');
    const jwe = await seal(keys('aes', 'ec'), associatedData);
    assert.deepEqual(await open(jwe, 'ec', associatedData), plaintext);
    await fails(open(jwe, 'ec'), 'INVALID_CIPHERTEXT');
    await fails(open(jwe, 'ec', Buffer.from('invoice 8')), 'INVALID_CIPHERTEXT');
  });
});

describe('Decrypt of the JSON serialization', () => {
  test('without a key takes the first recipient that the caller may use', async () => {
    const jwe = await seal(keys('aes', 'ec', 'rsa'));
    world.change('aes', { state: 'SUSPENDED' });
    world.change('ec', { grants: [{ principal: 'somebody', operations: ['decrypt'] }] });
    assert.deepEqual(await open(jwe), plaintext);
    assert.equal(world.lastRecord.key, 'rsa/1');
    world.change('rsa', { state: 'REVOKED' });
    await fails(open(jwe), 'KEY_STATE');
  });

  test('of other tenants’ keys alone is refused, beside our own is passed over', async () => {
    await world.add({ keyId: 'theirs', algorithm: 'AES-256', purpose: 'encrypt', tenant: 'globex' });
    const input = { recipients: keys('theirs'), plaintext, associatedData: none };
    const theirs = (await encryptGeneral(world.ports, aCall('globex'), input)).value.jwe;
    await fails(open(theirs), 'PERMISSION_DENIED');
    const two = change(theirs, (json) => void json.recipients.push(json.recipients[0] as never));
    await fails(open(two), 'PERMISSION_DENIED');
    await fails(open(two, 'aes'), 'INVALID_REQUEST', /not the key of a recipient/);
  });

  test('reads what jose makes, General and Flattened, with its own aad member', async () => {
    const key = await importJWK(world.version('ec').publicJwk as JsonWebKey, 'ECDH-ES+A256KW');
    const aad = Buffer.from('carried');
    const general = await new GeneralEncrypt(plaintext)
      .setProtectedHeader({ enc: 'A256GCM' })
      .setAdditionalAuthenticatedData(aad)
      .addRecipient(key)
      .setUnprotectedHeader({ alg: 'ECDH-ES+A256KW', kid: 'acme/ec/1' })
      .addRecipient(await importJWK(JSON.parse(outsider.publicJwk), 'ECDH-ES+A256KW'))
      .setUnprotectedHeader({ alg: 'ECDH-ES+A256KW' })
      .encrypt();
    assert.deepEqual(await open(JSON.stringify(general), '', aad), plaintext);
    await fails(open(JSON.stringify(general)), 'INVALID_CIPHERTEXT'); // what is carried must be what is expected
    await fails(
      open(JSON.stringify({ ...general, aad: Buffer.from('other').toString('base64url') }), '', Buffer.from('other')),
      'INVALID_CIPHERTEXT',
    );
    const flattened = await new FlattenedEncrypt(plaintext)
      .setProtectedHeader({ enc: 'A128GCM', alg: 'ECDH-ES+A256KW' })
      .setUnprotectedHeader({ kid: 'acme/ec/1' })
      .encrypt(key);
    assert.deepEqual(await open(JSON.stringify(flattened)), plaintext);
  });

  test('the unprotected alg and kid choose nothing that the key record does not say', async () => {
    const jwe = await seal(keys('ec'));
    const withHeader = (more: object) =>
      change(jwe, (json) => void Object.assign(json.recipients[0]?.header ?? {}, more));
    await fails(open(withHeader({ alg: 'RSA-OAEP-256' })), 'INVALID_REQUEST', /"alg"/);
    await fails(open(withHeader({ alg: 'RSA1_5' })), 'ALGORITHM_FORBIDDEN');
    await fails(open(withHeader({ alg: 'dir' })), 'INVALID_REQUEST');
    await fails(open(withHeader({ kid: 'acme/aes/1' })), 'INVALID_REQUEST');
    await fails(open(withHeader({ kid: 'acme/nothing/1' })), 'KEY_UNKNOWN');
    await fails(open(withHeader({ kid: 'globex/ec/1' })), 'PERMISSION_DENIED');
  });

  const strict: readonly (readonly [string, (json: Json) => unknown])[] = [
    ['no protected header', ({ protected: _, ...rest }) => rest],
    ['enc not protected', (json) => ({ ...json, protected: 'e30', unprotected: { enc: 'A256GCM' } })],
    ['a member in two headers', (json) => void Object.assign(json.recipients[0]?.header ?? {}, { enc: 'A256GCM' })],
    ['a member in shared and own header', (json) => ({ ...json, unprotected: { alg: 'A256GCMKW' } })],
    [
      'crit outside of the protected header',
      (json) => void Object.assign(json.recipients[0]?.header ?? {}, { crit: ['x'], x: 1 }),
    ],
    ['zip', (json) => ({ ...json, unprotected: { zip: 'DEF' } })],
    ['General and Flattened at once', (json) => ({ ...json, encrypted_key: 'AAAA' })],
    ['no recipients', (json) => ({ ...json, recipients: [] })],
    ['recipients that are no objects', (json) => ({ ...json, recipients: [1] })],
    ['33 recipients', (json) => ({ ...json, recipients: Array(33).fill(json.recipients[0]) })],
    ['an iv of another length', (json) => ({ ...json, iv: 'AAAA' })],
    ['a tag of another length', (json) => ({ ...json, tag: 'AAAA' })],
    ['a second spelling of base64url', (json) => ({ ...json, tag: `${json.tag}=` })],
    [
      'an encrypted key over the limit',
      (json) => void Object.assign(json.recipients[0] ?? {}, { encrypted_key: 'A'.repeat(2800) }),
    ],
    ['a header over 8 KiB', (json) => void Object.assign(json.recipients[0]?.header ?? {}, { x: 'y'.repeat(9000) })],
    ['a ciphertext that is no text', (json) => ({ ...json, ciphertext: 7 })],
  ];
  for (const [name, by] of strict) {
    test(`refuses ${name}`, async () => {
      await fails(open(change(await seal(keys('aes')), by)), 'INVALID_REQUEST', /jwe/);
    });
  }

  test('refuses a repeated member', async () => {
    const jwe = await seal(keys('aes'));
    await fails(open(jwe.replace('{', '{"iv":"AAAAAAAAAAAAAAAA",')), 'INVALID_REQUEST');
  });

  test('one changed bit of content or wrap is one and the same error', async () => {
    const jwe = await seal(keys('aes'));
    const flip = (text: string): string => {
      const bytes = Buffer.from(text, 'base64url');
      bytes[0] = (bytes[0] as number) ^ 1;
      return bytes.toString('base64url');
    };
    for (const by of [
      (json: Json) => ({ ...json, iv: flip(json.iv) }),
      (json: Json) => ({ ...json, ciphertext: flip(json.ciphertext) }),
      (json: Json) => ({ ...json, tag: flip(json.tag) }),
      (json: Json) =>
        void Object.assign(json.recipients[0] ?? {}, { encrypted_key: flip(json.recipients[0]?.encrypted_key ?? '') }),
      (json: Json) => ({ ...json, aad: 'AAAA' }),
    ]) {
      await fails(open(change(jwe, by)), 'INVALID_CIPHERTEXT');
    }
  });

  test('tries at most eight versions over all recipients', async () => {
    const jwe = await seal(keys('ec'));
    const bare = change(jwe, (json) => {
      const [{ header, encrypted_key }] = json.recipients as [Json['recipients'][0]];
      const { kid: _, ...rest } = header;
      return { ...json, ciphertext: 'AAAA', recipients: Array(20).fill({ header: rest, encrypted_key }) };
    });
    await fails(open(bare, 'ec'), 'INVALID_CIPHERTEXT');
    assert.equal(token.calls.get('ecdh'), 8);
  });

  test('fuzz: any JSON is a JWE or a refusal of the table', () => {
    const b64 = fc.uint8Array({ maxLength: 24 }).map((bytes) => Buffer.from(bytes).toString('base64url'));
    const header = fc.dictionary(
      fc.constantFrom('alg', 'kid', 'enc', 'zip', 'crit', 'iv'),
      fc.oneof(fc.string(), b64, fc.jsonValue()),
    );
    const text = fc.oneof(
      fc.json(),
      fc
        .record(
          {
            protected: fc.oneof(
              b64,
              header.map((value) => Buffer.from(JSON.stringify(value)).toString('base64url')),
              fc.constant('eyJlbmMiOiJBMjU2R0NNIn0'),
            ),
            unprotected: header,
            recipients: fc.array(fc.record({ header, encrypted_key: b64 }, { requiredKeys: [] }), { maxLength: 4 }),
            iv: fc.oneof(b64, fc.constant('A'.repeat(16))),
            ciphertext: b64,
            tag: fc.oneof(b64, fc.constant(`${'A'.repeat(21)}A`)),
            aad: b64,
          },
          { requiredKeys: [] },
        )
        .map((value) => JSON.stringify(value)),
    );
    fc.assert(
      fc.property(text, (json) => {
        try {
          const { recipients } = parseJsonJwe(json);
          assert.ok(recipients.length >= 1 && recipients.length <= 32);
        } catch (thrown) {
          assert.ok(thrown instanceof AgentError && thrown.code === 'INVALID_REQUEST', String(thrown));
        }
      }),
      { numRuns: 3000 },
    );
  });
});

describe('Rewrap', () => {
  test('adds, removes and replaces recipients, and leaves the content as it is', async () => {
    const jwe = await seal(keys('aes'));
    const added = await rewrapped({ jwe, add: [...keys('ec', 'aes-2'), { publicJwk: outsider.publicJwk }] });
    assert.deepEqual(
      added.value.keysUsed.map((row) => row.keyId),
      ['ec', 'aes-2'],
    );
    for (const key of ['aes', 'ec', 'aes-2']) assert.deepEqual(await open(added.value.jwe, key), plaintext);
    const theirs = await generalDecrypt(
      JSON.parse(added.value.jwe),
      await importJWK(outsider.privateJwk, 'ECDH-ES+A256KW'),
    );
    assert.deepEqual(Buffer.from(theirs.plaintext), plaintext);

    const replaced = await rewrapped({
      jwe: added.value.jwe,
      sourceKey: 'ec',
      add: keys('rsa'),
      remove: ['acme/aes/1', 'outsider'],
    });
    const [before, after] = [JSON.parse(jwe) as Json, JSON.parse(replaced.value.jwe) as Json];
    assert.deepEqual(
      [after.protected, after.iv, after.ciphertext, after.tag],
      [before.protected, before.iv, before.ciphertext, before.tag],
    );
    assert.deepEqual(
      after.recipients.map((row) => row.header['kid']),
      ['acme/ec/1', 'acme/aes-2/1', 'acme/rsa/1'],
    );
    await fails(open(replaced.value.jwe, 'aes'), 'INVALID_REQUEST');
    assert.deepEqual(await open(replaced.value.jwe, 'rsa'), plaintext);
  });

  test('between AES keys, or from RSA to AES, asks the token for one request and never for the content key', async () => {
    for (const source of ['aes', 'rsa']) {
      const jwe = await seal(keys(source));
      const asked = ['gcmDecrypt', 'oaepDecrypt', 'rewrap'].map((name) => token.calls.get(name as 'rewrap') ?? 0);
      const { value, envelope } = await rewrapped({ jwe, add: keys('aes-2'), remove: [`acme/${source}/1`] });
      assert.equal(value.insideToken, true);
      assert.equal(token.calls.get('rewrap'), (asked[2] as number) + 1);
      assert.deepEqual(envelope.keyUsed, { keyId: 'aes-2', version: 1 });
      assert.deepEqual(value.sourceKeyUsed, { keyId: source, version: 1 });
      assert.deepEqual(
        [world.lastRecord.key, world.lastRecord.detail?.['source'], world.lastRecord.detail?.['insideToken']],
        ['aes-2/1', `${source}/1`, true],
      );
      assert.deepEqual(await open(value.jwe), plaintext);
    }
    const outside = await rewrapped({ jwe: await seal(keys('aes')), add: keys('ec') });
    assert.equal(outside.value.insideToken, false);
  });

  test('refuses a wrap that does not open, in the token and outside', async () => {
    const broken = change(await seal(keys('aes')), (json) => {
      const row = json.recipients[0] as Json['recipients'][0];
      row.encrypted_key = randomBytes(32).toString('base64url');
    });
    await fails(rewrapped({ jwe: broken, add: keys('aes-2') }), 'INVALID_CIPHERTEXT');
    await fails(rewrapped({ jwe: broken, add: keys('ec') }), 'INVALID_CIPHERTEXT');
    // A content key of another length than `enc` is none.
    const short = change(await seal(keys('aes')), (json) => ({
      ...json,
      protected: Buffer.from('{"enc":"A128GCM"}').toString('base64url'),
    }));
    await fails(rewrapped({ jwe: short, add: keys('aes-2') }), 'INVALID_CIPHERTEXT');
    await fails(rewrapped({ jwe: short, add: keys('rsa') }), 'INVALID_CIPHERTEXT');
  });

  test('refuses what cannot change, what changes nothing, and what leaves nobody', async () => {
    const jwe = await seal(keys('aes'));
    await fails(rewrapped({ jwe }), 'INVALID_REQUEST', /nothing/);
    await fails(rewrapped({ jwe, remove: ['acme/aes/1'] }), 'INVALID_REQUEST', /no recipient/);
    await fails(rewrapped({ jwe, remove: ['acme/ec/1'], add: keys('ec') }), 'INVALID_REQUEST', /no recipient has/);
    await fails(rewrapped({ jwe: 'a.b.c.d.e', add: keys('ec') }), 'INVALID_REQUEST', /ReEncrypt/);
    const bound = Buffer.from(JSON.stringify({ enc: 'A256GCM', kid: 'acme/aes/1' })).toString('base64url');
    const fixed = change(jwe, (json) => {
      delete json.recipients[0]?.header['kid'];
      return { ...json, protected: bound };
    });
    await fails(rewrapped({ jwe: fixed, add: keys('ec') }), 'INVALID_REQUEST', /ReEncrypt/);
    const many = Array.from({ length: 32 }, (_, index) => ({ key: `k${index}` }));
    await fails(rewrapped({ jwe, add: many }), 'INVALID_REQUEST', /32/);
  });

  test('needs what reading the source and writing to each target need', async () => {
    const jwe = await seal(keys('aes'));
    const scoped = aCall('acme', {
      caller: { tenant: 'acme', principal: 'app', scopes: new Set(['crypto.encrypt']), authenticatedBy: 'jwt' },
    });
    await fails(rewrapped({ jwe, add: keys('ec') }, scoped), 'PERMISSION_DENIED', /crypto.decrypt/);
    world.change('aes', { grants: [{ principal: 'app', operations: ['encrypt', 'rewrap'] }] });
    await fails(rewrapped({ jwe, add: keys('ec') }), 'PERMISSION_DENIED');
    world.change('aes', { grants: [{ principal: 'app', operations: ['decrypt'] }] });
    world.change('ec', { grants: [{ principal: 'app', operations: ['decrypt'] }] });
    await fails(rewrapped({ jwe, add: keys('ec') }), 'PERMISSION_DENIED');
    world.change('ec', { grants: [] });
    await rewrapped({ jwe, add: keys('ec') });
    world.change('aes', { state: 'REVOKED', grants: [] });
    await rewrapped({ jwe, add: keys('ec') }); // this caller has keys.revoke
    await fails(open(jwe), 'KEY_STATE');
  });
});
