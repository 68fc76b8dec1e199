// The one wrapper round pkcs11js. Invariant: nothing reaches it unchecked (arguments.ts). All calls are synchronous on the thread that owns the
// session, so no buffer can change or be freed under the library. The library is never unloaded.
import pkcs11js from 'pkcs11js';
import { CKR, ckrRow } from '../ckr.ts';
import {
  type Attribute,
  checkHandle,
  checkInput,
  checkMechanism,
  checkNumber,
  checkOutput,
  checkTemplate,
  type Handle,
  type Template,
} from './arguments.ts';
import { findInterface, type Pkcs11Interface } from './interface.ts';
import type { Mechanism, Use } from './mechanisms.ts';

const FIND_AT_ONCE = 1024;

/** A C call that did not return CKR_OK. */
export class Pkcs11Failure extends Error {
  override readonly name = 'Pkcs11Failure';
  readonly ckr: number;
  readonly method: string;
  constructor(ckr: number, method: string) {
    super(`${method}: ${ckrRow(ckr).name}`);
    this.ckr = ckr;
    this.method = method;
  }
}

/** C_CreateObject and some others throw a plain Error with "CKR_X:19" in its message and no code. */
const failureOf = (thrown: unknown, method: string): unknown => {
  if (!(thrown instanceof Error)) return thrown;
  const { code } = thrown as Error & { code?: unknown };
  if (typeof code === 'number' && code !== 0) return new Pkcs11Failure(code, method);
  const match = /CKR_\w+:(\d+)/.exec(thrown.message);
  return match === null ? thrown : new Pkcs11Failure(Number(match[1]), method);
};

const call = <T>(method: string, run: () => T): T => {
  try {
    return run();
  } catch (thrown) {
    throw failureOf(thrown, method);
  }
};

export interface TokenInfo {
  readonly label: string;
  readonly manufacturer: string;
  readonly model: string;
  readonly serial: string;
  readonly firmware: string;
}

const version = (value: pkcs11js.Version): string => `${value.major}.${value.minor}`;
const KEEP: pkcs11js.PKCS11[] = []; // garbage collection of a PKCS11 object unloads the library under its sessions

const USER_STATES: readonly number[] = [1, 3]; // CKS_RO_USER_FUNCTIONS, CKS_RW_USER_FUNCTIONS

export class Pkcs11Module {
  readonly #lib: pkcs11js.PKCS11;
  readonly #withheld: ReadonlySet<number>;
  readonly #interface: Pkcs11Interface | undefined;

  /** Loads the library. `withheld` are mechanisms that this module shall be without. */
  constructor({ path, withheld }: { readonly path: string; readonly withheld: ReadonlySet<number> }) {
    this.#lib = new pkcs11js.PKCS11();
    KEEP.push(this.#lib);
    this.#withheld = withheld;
    this.#lib.load(path);
    this.#interface = findInterface(path);
  }

  /** `parameters` are CK_C_INITIALIZE_ARGS.pReserved as a text, which NSS takes its configuration from. */
  initialize(parameters?: string): void {
    const flags = pkcs11js.CKF_OS_LOCKING_OK;
    // pkcs11js cuts the last character off.
    const given = parameters === undefined ? { flags } : { flags, libraryParameters: `${parameters} ` };
    call('C_Initialize', () => this.#lib.C_Initialize(given));
  }
  finalize(): void {
    call('C_Finalize', () => this.#lib.C_Finalize());
  }
  libraryVersion(): { readonly description: string; readonly manufacturer: string; readonly version: string } {
    const info = call('C_GetInfo', () => this.#lib.C_GetInfo());
    return {
      description: info.libraryDescription.trim(),
      manufacturer: info.manufacturerID.trim(),
      version: version(info.libraryVersion),
    };
  }
  slots(): Handle[] {
    return call('C_GetSlotList', () => this.#lib.C_GetSlotList(true));
  }
  tokenInfo(slot: Handle): TokenInfo {
    const info = call('C_GetTokenInfo', () => this.#lib.C_GetTokenInfo(checkHandle(slot)));
    return {
      label: info.label.trim(),
      manufacturer: info.manufacturerID.trim(),
      model: info.model.trim(),
      serial: info.serialNumber.trim(),
      firmware: version(info.firmwareVersion),
    };
  }

  openSession(slot: Handle): Handle {
    const flags = pkcs11js.CKF_SERIAL_SESSION | pkcs11js.CKF_RW_SESSION;
    return call('C_OpenSession', () => this.#lib.C_OpenSession(checkHandle(slot), flags));
  }
  /** Only while nothing runs on it: closing a session in flight crashes some modules. */
  closeSession(session: Handle): void {
    call('C_CloseSession', () => this.#lib.C_CloseSession(checkHandle(session)));
  }
  /** For modules whose C_Login cannot be reached with a buffer that can be wiped. */
  loginWithString(session: Handle, pin: string): void {
    call('C_Login', () => this.#lib.C_Login(checkHandle(session), pkcs11js.CKU_USER, pin));
  }
  /** Whether the user is logged in, as the token says of this session; true where it cannot say. Throws where it is lost. */
  isLoggedIn(session: Handle): boolean {
    try {
      const { state } = call('C_GetSessionInfo', () => this.#lib.C_GetSessionInfo(checkHandle(session)));
      return USER_STATES.includes(state);
    } catch (thrown) {
      if (thrown instanceof Pkcs11Failure && thrown.ckr === CKR.FUNCTION_NOT_SUPPORTED) return true;
      throw thrown;
    }
  }
  logout(session: Handle): void {
    call('C_Logout', () => this.#lib.C_Logout(checkHandle(session)));
  }

  mechanisms(slot: Handle): number[] {
    const list = call('C_GetMechanismList', () => this.#lib.C_GetMechanismList(checkHandle(slot)));
    return list.filter((number) => !this.#withheld.has(number));
  }
  /** ulMaxKeySize, in the unit of the mechanism. */
  maxKeySize(slot: Handle, mechanism: number): number {
    const info = call('C_GetMechanismInfo', () => this.#lib.C_GetMechanismInfo(checkHandle(slot), mechanism));
    return info.maxKeySize;
  }

  /** At most `limit` objects. */
  find(session: Handle, template: Template, limit: number): Handle[] {
    checkHandle(session);
    call('C_FindObjectsInit', () => this.#lib.C_FindObjectsInit(session, checkTemplate(template)));
    try {
      return call('C_FindObjects', () => this.#lib.C_FindObjects(session, limit));
    } finally {
      call('C_FindObjectsFinal', () => this.#lib.C_FindObjectsFinal(session));
    }
  }
  /** All of them, however few the module gives at once; undefined where they are more than `most`. */
  findAll(session: Handle, template: Template, most: number): Handle[] | undefined {
    checkHandle(session);
    call('C_FindObjectsInit', () => this.#lib.C_FindObjectsInit(session, checkTemplate(template)));
    try {
      const found: Handle[] = [];
      for (;;) {
        const some = call('C_FindObjects', () => this.#lib.C_FindObjects(session, FIND_AT_ONCE));
        if (some.length === 0) return found;
        for (const handle of some) found.push(handle);
        if (found.length > most) return undefined;
      }
    } finally {
      call('C_FindObjectsFinal', () => this.#lib.C_FindObjectsFinal(session));
    }
  }
  /** One attribute alone: an unsupported or sensitive one fails a call that asks for several. */
  attribute(session: Handle, object: Handle, type: number): Buffer | undefined {
    const [row] = call('C_GetAttributeValue', () =>
      this.#lib.C_GetAttributeValue(checkHandle(session), checkHandle(object), [{ type: checkNumber(type) }]),
    );
    return Buffer.isBuffer(row?.value) ? row.value : undefined;
  }
  setAttribute(session: Handle, object: Handle, attribute: Attribute): void {
    call('C_SetAttributeValue', () =>
      this.#lib.C_SetAttributeValue(checkHandle(session), checkHandle(object), checkTemplate([attribute])),
    );
  }
  createObject(session: Handle, template: Template): Handle {
    return call('C_CreateObject', () => this.#lib.C_CreateObject(checkHandle(session), checkTemplate(template)));
  }
  destroyObject(session: Handle, object: Handle): void {
    call('C_DestroyObject', () => this.#lib.C_DestroyObject(checkHandle(session), checkHandle(object)));
  }

  generateKey(session: Handle, mechanism: Mechanism, template: Template): Handle {
    const checked = this.#offered('generate', mechanism, 'C_GenerateKey');
    return call('C_GenerateKey', () => this.#lib.C_GenerateKey(checkHandle(session), checked, checkTemplate(template)));
  }
  generateKeyPair(
    session: Handle,
    mechanism: Mechanism,
    templates: { readonly publicKey: Template; readonly privateKey: Template },
  ): { readonly publicKey: Handle; readonly privateKey: Handle } {
    const checked = this.#offered('generate-pair', mechanism, 'C_GenerateKeyPair');
    return call('C_GenerateKeyPair', () =>
      this.#lib.C_GenerateKeyPair(
        checkHandle(session),
        checked,
        checkTemplate(templates.publicKey),
        checkTemplate(templates.privateKey),
      ),
    );
  }
  deriveKey(session: Handle, mechanism: Mechanism, base: Handle, template: Template): Handle {
    const checked = this.#offered('derive', mechanism, 'C_DeriveKey');
    return call('C_DeriveKey', () =>
      this.#lib.C_DeriveKey(checkHandle(session), checked, checkHandle(base), checkTemplate(template)),
    );
  }

  /** C_DecapsulateKey of PKCS #11 3.2; CKR_FUNCTION_NOT_SUPPORTED where the library does not offer it. */
  decapsulateKey(session: Handle, mechanism: Mechanism, key: Handle, ciphertext: Buffer, template: Template): Handle {
    this.#offered('decapsulate', mechanism, 'C_DecapsulateKey');
    if (this.#interface === undefined) throw new Pkcs11Failure(CKR.FUNCTION_NOT_SUPPORTED, 'C_DecapsulateKey');
    const [given, wanted] = [checkInput(ciphertext), checkTemplate(template) as Template];
    const asked = this.#interface.decapsulateKey(checkHandle(session), mechanism, checkHandle(key), given, wanted);
    if (asked.ckr !== 0) throw new Pkcs11Failure(asked.ckr, 'C_DecapsulateKey');
    return asked.made;
  }

  /** What is wrapped, as a view of `output`. */
  wrapKey(session: Handle, mechanism: Mechanism, by: Handle, key: Handle, output: Buffer): Buffer {
    const checked = this.#offered('wrap', mechanism, 'C_WrapKey');
    checkOutput(output);
    return call('C_WrapKey', () =>
      this.#lib.C_WrapKey(checkHandle(session), checked, checkHandle(by), checkHandle(key), output),
    );
  }
  unwrapKey(session: Handle, mechanism: Mechanism, by: Handle, wrapped: Buffer, template: Template): Handle {
    const checked = this.#offered('unwrap', mechanism, 'C_UnwrapKey');
    return call('C_UnwrapKey', () =>
      this.#lib.C_UnwrapKey(
        checkHandle(session),
        checked,
        checkHandle(by),
        checkInput(wrapped),
        checkTemplate(template),
      ),
    );
  }

  /** The result is a view of `output`. */
  sign(session: Handle, mechanism: Mechanism, key: Handle, data: Buffer, output: Buffer): Buffer {
    const checked = this.#offered('sign', mechanism, 'C_SignInit');
    checkOutput(output);
    call('C_SignInit', () => this.#lib.C_SignInit(checkHandle(session), checked, checkHandle(key)));
    return call('C_Sign', () => this.#lib.C_Sign(session, checkInput(data), output));
  }
  encrypt(session: Handle, mechanism: Mechanism, key: Handle, data: Buffer, output: Buffer): Buffer {
    const checked = this.#offered('encrypt', mechanism, 'C_EncryptInit');
    checkOutput(output);
    call('C_EncryptInit', () => this.#lib.C_EncryptInit(checkHandle(session), checked, checkHandle(key)));
    return call('C_Encrypt', () => this.#lib.C_Encrypt(session, checkInput(data), output));
  }
  decrypt(session: Handle, mechanism: Mechanism, key: Handle, data: Buffer, output: Buffer): Buffer {
    const checked = this.#offered('decrypt', mechanism, 'C_DecryptInit');
    checkOutput(output);
    call('C_DecryptInit', () => this.#lib.C_DecryptInit(checkHandle(session), checked, checkHandle(key)));
    return call('C_Decrypt', () => this.#lib.C_Decrypt(session, checkInput(data), output));
  }
  /** Fills `output`. */
  random(session: Handle, output: Buffer): void {
    checkOutput(output);
    call('C_GenerateRandom', () => this.#lib.C_GenerateRandom(checkHandle(session), output));
  }

  #offered(use: Use, mechanism: Mechanism, method: string): pkcs11js.Mechanism {
    const checked = checkMechanism(use, mechanism);
    if (this.#withheld.has(mechanism.mechanism)) throw new Pkcs11Failure(0x70, method); // CKR_MECHANISM_INVALID
    return checked;
  }
}
