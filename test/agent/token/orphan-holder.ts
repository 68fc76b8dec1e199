// Opens a token, prints the process id of the token process, and waits to be killed.
import type { SoftHsm } from '../../support/softhsm.ts';
import { openSoftHsmToken } from '../../support/token.ts';

const token = await openSoftHsmToken(JSON.parse(process.argv[2] ?? '') as SoftHsm);
console.log(token.pid());
setInterval(() => {}, 60_000);
