// What may be handed to pkcs11js, which aborts the process on bad arguments, cuts numbers off, and takes an empty output
// buffer for a size query that "succeeds". Invariant: what is returned here is of the shape that the C API expects.
import type pkcs11js from 'pkcs11js';
import { assertAllowed, type Mechanism, type Use } from './mechanisms.ts';

/** CK_SLOT_ID, CK_SESSION_HANDLE or CK_OBJECT_HANDLE: 8 bytes as pkcs11js hands them out. */
export type Handle = Buffer;
export interface Attribute {
  readonly type: number;
  readonly value: number | boolean | Buffer;
}
export type Template = readonly Attribute[];

const U32_MAX = 0xffff_ffff;
const MAX_ATTRIBUTES = 32;
/** An empty Buffer.alloc(0) reaches the library as NULL, which SoftHSM refuses; a view into live bytes does not. */
const EMPTY = Buffer.alloc(16).subarray(4, 4);

export const checkHandle = (handle: Handle): Handle => {
  if (!Buffer.isBuffer(handle) || handle.length !== 8) throw new TypeError('a handle is 8 bytes');
  return handle;
};
/** pkcs11js cuts numbers down to 32 bits, so 2^32 + 4 would pass for 4. */
export const checkNumber = (value: number): number => {
  if (!Number.isInteger(value) || value < 0 || value > U32_MAX) throw new TypeError(`${value} is not a CK_ULONG`);
  return value;
};
export const checkTemplate = (template: Template): pkcs11js.Template => {
  if (!Array.isArray(template) || template.length > MAX_ATTRIBUTES) throw new TypeError('not a template');
  return template.map(({ type, value }) => {
    checkNumber(type);
    if (typeof value === 'number') checkNumber(value);
    else if (typeof value !== 'boolean' && !Buffer.isBuffer(value)) throw new TypeError('not an attribute value');
    return { type, value };
  });
};
export const checkMechanism = (use: Use, mechanism: Mechanism): pkcs11js.Mechanism => {
  assertAllowed(use, checkNumber(mechanism.mechanism));
  const { parameter } = mechanism;
  if (parameter === undefined) return { mechanism: mechanism.mechanism };
  if (!Buffer.isBuffer(parameter)) {
    for (const value of Object.values(parameter)) {
      if (typeof value === 'number') checkNumber(value);
      else if (!Buffer.isBuffer(value)) throw new TypeError('not a mechanism parameter');
    }
  }
  return { mechanism: mechanism.mechanism, parameter: parameter as pkcs11js.IParams };
};
export const checkInput = (data: Buffer): Buffer => {
  if (!Buffer.isBuffer(data)) throw new TypeError('input is not a Buffer');
  return data.length === 0 ? EMPTY : data;
};
export const checkOutput = (output: Buffer): Buffer => {
  if (!Buffer.isBuffer(output) || output.length === 0) throw new TypeError('an empty output is a size query');
  return output;
};
