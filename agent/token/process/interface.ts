// Functions of PKCS #11 3.2 that pkcs11js does not know, called through C_GetInterface of the library that it has loaded:
// dlopen gives the same library again, so sessions and handles are common. Invariant: no slot of a function list is
// read that the list's own version does not promise, and what is pointed to outlives the call.
import koffi from 'koffi';
import type { Handle, Template } from './arguments.ts';
import type { Mechanism } from './mechanisms.ts';

const POINTER_BYTES = 8;
/** Index in the function list, after the version that is padded to a pointer (pkcs11f.h of 3.2). */
const C_DECAPSULATE_KEY = 93;
const NAME = 'PKCS 11';
const [MAJOR, MINOR] = [3, 2];

export interface Pkcs11Interface {
  /** The CKR value, and the handle of the key made where it is 0. */
  decapsulateKey(
    session: Handle,
    mechanism: Mechanism,
    key: Handle,
    ciphertext: Buffer,
    template: Template,
  ): { readonly ckr: number; readonly made: Handle };
}

type Decapsulate = (
  session: bigint,
  mechanism: Buffer,
  key: bigint,
  template: Buffer,
  count: number,
  ciphertext: Buffer,
  length: number,
  made: Buffer,
) => number | bigint;

const ulong = (value: number | bigint): Buffer => {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(BigInt(value));
  return bytes;
};

const valueBytes = (value: number | boolean | Buffer): Buffer => {
  if (Buffer.isBuffer(value)) return value;
  return typeof value === 'boolean' ? Buffer.of(value ? 1 : 0) : ulong(value);
};

/** CK_ATTRIBUTE[]: type, pointer, length. The values are to be held as long as the template is used. */
const nativeTemplate = (template: Template, values: readonly Buffer[]): Buffer =>
  Buffer.concat(
    template.flatMap(({ type }, index) => {
      const value = values[index] as Buffer;
      return [ulong(type), ulong(koffi.address(value)), ulong(value.length)];
    }),
  );

/** The function list of 3.2, or undefined where the library has none: some give an older one when asked for it. */
const functionList = (library: string): unknown => {
  const get = koffi
    .load(library)
    .func('C_GetInterface', 'ulong', ['const char *', 'uint8_t *', koffi.out(koffi.pointer('void *')), 'ulong']);
  const found: [unknown] = [null];
  if (Number(get(NAME, Buffer.of(MAJOR, MINOR), found, 0)) !== 0 || found[0] === null) return undefined;
  const list: unknown = koffi.decode(found[0], POINTER_BYTES, 'void *'); // CK_INTERFACE: name, list, flags
  if (list === null) return undefined;
  const [major = 0, minor = 0] = koffi.decode(list, 'uint8_t', 2) as number[];
  return major > MAJOR || (major === MAJOR && minor >= MINOR) ? list : undefined;
};

/** Undefined where the library offers no interface of 3.2. */
export const findInterface = (library: string): Pkcs11Interface | undefined => {
  let decapsulate: Decapsulate;
  try {
    const list = functionList(library);
    if (list === undefined) return undefined;
    const address: unknown = koffi.decode(list, POINTER_BYTES * (1 + C_DECAPSULATE_KEY), 'void *');
    if (address === null) return undefined;
    const arguments_ = 'ulong, uint8_t *, ulong, uint8_t *, ulong, uint8_t *, ulong, uint8_t *';
    decapsulate = koffi.decode(address, koffi.proto(`ulong (${arguments_})`));
  } catch {
    return undefined; // no C_GetInterface: a library of 2.40
  }
  return {
    decapsulateKey: (session, mechanism, key, ciphertext, template) => {
      const values = template.map(({ value }) => valueBytes(value));
      const attributes = nativeTemplate(template, values);
      const native = Buffer.concat([ulong(mechanism.mechanism), Buffer.alloc(2 * POINTER_BYTES)]);
      const made = Buffer.alloc(8);
      const ckr = Number(
        decapsulate(
          session.readBigUInt64LE(0),
          native,
          key.readBigUInt64LE(0),
          attributes,
          values.length,
          ciphertext,
          ciphertext.length,
          made,
        ),
      );
      return { ckr, made };
    },
  };
};
