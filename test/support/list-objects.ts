// Labels of the objects of a token, one a line, as a stranger with the PIN sees them. In a process of its own, because the
// library finds its configuration in the environment.
import { readFileSync } from 'node:fs';
import pkcs11js from 'pkcs11js';

const [, , library, label, pinFile] = process.argv as [string, string, string, string, string];
const module = new pkcs11js.PKCS11();
module.load(library);
module.C_Initialize();
const slot = module.C_GetSlotList(true).find((row) => module.C_GetTokenInfo(row).label.trim() === label);
if (slot === undefined) throw new Error(`no token is labelled ${label}`);
const session = module.C_OpenSession(slot, pkcs11js.CKF_SERIAL_SESSION);
module.C_Login(session, pkcs11js.CKU_USER, readFileSync(pinFile, 'utf8').trim());
module.C_FindObjectsInit(session, []);
for (const object of module.C_FindObjects(session, 1000)) {
  const [row] = module.C_GetAttributeValue(session, object, [{ type: pkcs11js.CKA_LABEL }]);
  console.log(String(row?.value ?? ''));
}
module.C_FindObjectsFinal(session);
module.C_Finalize();
