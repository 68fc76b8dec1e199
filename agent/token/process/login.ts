// C_Login with a PIN that can be wiped. pkcs11js takes the PIN as a string, which stays in memory until it is reused;
// the library's own C_Login, reached by koffi through C_GetFunctionList, takes our buffer.
import koffi from 'koffi';
import { CKR } from '../ckr.ts';
import type { Handle } from './arguments.ts';
import { Pkcs11Failure, type Pkcs11Module } from './module.ts';

const USER = 1; // CKU_USER
const POINTER_BYTES = 8;
const C_LOGIN = 18; // index in CK_FUNCTION_LIST, after the version that is padded to a pointer (pkcs11f.h)

type Login = (session: bigint, user: number, pin: Buffer, length: number) => number;

/** Undefined where the function list cannot be reached: then pkcs11js has to do it. */
const findLogin = (library: string): Login | undefined => {
  try {
    const list: [unknown] = [null];
    const get = koffi.load(library).func('C_GetFunctionList', 'ulong', [koffi.out(koffi.pointer('void *'))]);
    if (Number(get(list)) !== 0 || list[0] === null) return undefined;
    const address: unknown = koffi.decode(list[0], POINTER_BYTES * (1 + C_LOGIN), 'void *');
    return koffi.decode(
      address,
      koffi.proto('ulong MortiseLogin(ulong session, ulong user, uint8_t *pin, ulong length)'),
    );
  } catch {
    return undefined; // the caller falls back
  }
};

/** Logs the user in; wipes the PIN whatever happens. Gives "already" where the token says so. Throws Pkcs11Failure. */
export const logIn = (module: Pkcs11Module, library: string, session: Handle, pin: Buffer): 'now' | 'already' => {
  try {
    const login = findLogin(library);
    if (login === undefined) {
      module.loginWithString(session, pin.toString('utf8'));
      return 'now';
    }
    const ckr = Number(login(session.readBigUInt64LE(0), USER, pin, pin.length));
    if (ckr === CKR.USER_ALREADY_LOGGED_IN) return 'already';
    if (ckr !== 0) throw new Pkcs11Failure(ckr, 'C_Login');
    return 'now';
  } finally {
    pin.fill(0);
  }
};
