// Runs the conformance suite on a module inside a Debian root, and leaves what was seen for the matrix in /mnt.
import { writeFileSync } from 'node:fs';
import { vendorEnvironment } from '../../../agent/token/environment.ts';
import { conformance } from '../conformance.ts';

const { MODULE_LIBRARY = '', MODULE_LABEL = '', MODULE_PIN_FILE = '' } = process.env;

conformance({
  name: MODULE_LIBRARY,
  target: async () => ({
    library: MODULE_LIBRARY,
    label: MODULE_LABEL,
    pinFile: MODULE_PIN_FILE,
    env: vendorEnvironment(process.env),
  }),
  refuses: () => true, // whatever it is, the table says so
  seen: (outcomes, wraps) => writeFileSync('/mnt/seen.json', JSON.stringify({ starts: true, wraps, outcomes })),
});
