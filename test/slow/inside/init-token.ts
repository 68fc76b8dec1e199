// Initialises the first token of a module as its own tool would ask for it: label, PIN of the security officer, PIN of the
// user. openCryptoki's tool only asks a terminal.
import { readFileSync } from 'node:fs';
import pkcs11js from 'pkcs11js';

const { MODULE_LIBRARY = '', MODULE_LABEL = '', MODULE_PIN_FILE = '' } = process.env;
const SO_PIN = '87654321'; // of a new openCryptoki token
const OWN_SO_PIN = 'officer1';

const module = new pkcs11js.PKCS11();
module.load(MODULE_LIBRARY);
module.C_Initialize({ flags: pkcs11js.CKF_OS_LOCKING_OK });
const [slot] = module.C_GetSlotList(true);
if (slot === undefined) throw new Error(`${MODULE_LIBRARY} has no token`);
module.C_InitToken(slot, SO_PIN, MODULE_LABEL.padEnd(32)); // 32 bytes are read, whatever is given
const session = module.C_OpenSession(slot, pkcs11js.CKF_SERIAL_SESSION | pkcs11js.CKF_RW_SESSION);
module.C_Login(session, pkcs11js.CKU_SO, SO_PIN);
module.C_SetPIN(session, SO_PIN, OWN_SO_PIN);
module.C_Logout(session);
module.C_Login(session, pkcs11js.CKU_SO, OWN_SO_PIN);
module.C_InitPIN(session, readFileSync(MODULE_PIN_FILE, 'utf8').trim());
module.C_Logout(session);
module.C_CloseSession(session);
module.C_Finalize();
