// One function per request of the table in requests.ts. Answers may be views of a scratch buffer that the caller writes
// out and wipes before the next request. Invariant: lengths, curves and key types are checked here, before the library
// sees bytes that a stranger chose.
import type { Purpose } from '../../../proto/documents/algorithms.ts';
import { schemeOfKey, type WrapScheme } from '../../../proto/documents/wrap-schemes.ts';
import type { Profile } from '../profiles/profile.ts';
import { readU32 } from '../protocol.ts';
import type { RequestName } from '../requests.ts';
import { MAX_RANDOM_BYTES } from '../requests.ts';
import { createKey } from './create-key.ts';
import { gcmDecrypt, gcmEncrypt, type Sealed } from './gcm.ts';
import { generate, generateWrappingKey, type KeyWanted, type ObjectsWanted } from './generate-key.ts';
import { describe, listIds } from './listing.ts';
import { MACS, SIGNATURES } from './mechanisms.ts';
import { oaepDecrypt } from './oaep-decrypt.ts';
import { type Performer, room } from './performer.ts';
import { Refusal } from './refusal.ts';
import { decapsulate, ecdh } from './secrets.ts';
import { schemeOf, signWith } from './sign.ts';
import { unwrap, wrap } from './wrapping.ts';

const EMPTY = Buffer.alloc(0);

/** From one key to another without an answer in between: the CEK is in this process only, and wiped. */
const rewrap = (performer: Performer, fields: readonly Buffer[]): Sealed => {
  const [sourceId, sourceIv, data, targetId, targetIv, length] = fields as [
    Buffer,
    Buffer,
    Buffer,
    Buffer,
    Buffer,
    Buffer,
  ];
  const opened =
    sourceIv.length === 0
      ? oaepDecrypt(performer, [sourceId, data])
      : gcmDecrypt(performer, [sourceId, sourceIv, EMPTY, data]);
  const cek = Buffer.from(opened); // `opened` may lie where the answer goes
  opened.fill(0);
  try {
    if (cek.length !== readU32(length)) throw new Refusal('INVALID_CIPHERTEXT', 'not a key of this length');
    return gcmEncrypt(performer, [targetId, targetIv, EMPTY, cek]);
  } finally {
    cek.fill(0);
  }
};

const random = ({ session, scratch }: Performer, fields: readonly Buffer[]): Buffer => {
  const length = readU32(fields[0] as Buffer);
  if (length < 1 || length > MAX_RANDOM_BYTES) throw new Refusal('INVALID_REQUEST', 'a length that is not served');
  const output = room(scratch, length);
  session.module.random(session.handle, output);
  return output;
};

const sealedFields = ({ sealed, iv }: Sealed): Buffer[] => [sealed, iv];

const json = (value: unknown): Buffer => (value === undefined ? EMPTY : Buffer.from(JSON.stringify(value)));

const wantedKey = ({ profile }: Performer, fields: readonly Buffer[]): KeyWanted => {
  const [id, algorithm, purpose, label] = fields as [Buffer, Buffer, Buffer, Buffer];
  return {
    algorithm: algorithm.toString('latin1'),
    purpose: purpose.toString('latin1') as Purpose, // planKey refuses what is not one
    ...wantedObjects(profile, id, label),
  };
};

const wantedObjects = (profile: Profile, id: Buffer, label: Buffer): ObjectsWanted => ({
  id: Buffer.from(id),
  label: Buffer.from(label),
  onToken: true,
  race: profile.creationRace,
  namesUsesOnly: profile.namesUsesOnly,
});

const wantedWrappingKey = ({ profile }: Performer, fields: readonly Buffer[]): [WrapScheme, ObjectsWanted] => {
  const [id, label] = fields as [Buffer, Buffer];
  return [schemeOfKey(id.toString('hex')), wantedObjects(profile, id, label)];
};

const described = ({ session, keys }: Performer, id: Buffer): Buffer[] => {
  const { label, algorithms, purpose = '', isLocal, publicJwk, fault = '' } = describe(session, keys, id);
  const text = [algorithms.join(' '), purpose].map((value) => Buffer.from(value));
  return [label, ...text, Buffer.of(isLocal ? 1 : 0), json(publicJwk), Buffer.from(fault)];
};

/** Does what a request asks; throws Refusal or Pkcs11Failure. */
export const perform = (performer: Performer, name: RequestName, fields: readonly Buffer[]): readonly Buffer[] => {
  const { session, keys } = performer;
  switch (name) {
    case 'generate':
      return [json(generate(session, wantedKey(performer, fields)))];
    case 'create':
      return [json(createKey(session, wantedKey(performer, fields), fields[4] as Buffer).publicJwk)];
    case 'find': {
      const found = keys.find(session, Buffer.from(fields[0] as Buffer));
      return found === undefined ? [EMPTY, EMPTY] : [found.id, json(found.publicJwk)];
    }
    case 'destroy':
      keys.destroy(session, Buffer.from(fields[0] as Buffer));
      return [];
    case 'gcmEncrypt':
      return sealedFields(gcmEncrypt(performer, fields));
    case 'gcmDecrypt':
      return [gcmDecrypt(performer, fields)];
    case 'sign':
    case 'mac': {
      const [id, jose, data, context = EMPTY] = fields as [Buffer, Buffer, Buffer, Buffer?];
      const scheme = schemeOf(name === 'sign' ? SIGNATURES : MACS, jose);
      return [keys.use(session, id, scheme.key, (key) => signWith(performer, scheme, key, data, context))];
    }
    case 'oaepDecrypt':
      return [oaepDecrypt(performer, fields)];
    case 'rewrap':
      return sealedFields(rewrap(performer, fields));
    case 'ecdh':
      return [ecdh(performer, fields)];
    case 'decapsulate':
      return [decapsulate(performer, fields)];
    case 'generateWrappingKey':
      generateWrappingKey(session, ...wantedWrappingKey(performer, fields));
      return [];
    case 'wrap':
      return [wrap(performer, fields)];
    case 'unwrap':
      return [unwrap(performer, fields)];
    case 'random':
      return [random(performer, fields)];
    case 'list':
      return [listIds(session, Buffer.from(fields[0] as Buffer))];
    case 'describe':
      return described(performer, Buffer.from(fields[0] as Buffer));
  }
};
