// Works on a real SoftHSM and kills itself at the moment it is told to, as an agent that loses power. What to open
// comes in as JSON: the SoftHSM, the folder of the key store, and the moment.
import { systemClock } from '../../../agent/clock.ts';
import { type KeysEvents, openKeys } from '../../../agent/keys/keys.ts';
import { TEST_SEALING_KEY } from '../../support/sealing-key.ts';
import type { SoftHsm } from '../../support/softhsm.ts';
import { openSoftHsmToken } from '../../support/token.ts';

export type Moment =
  /** While the KEK is rotated: when the new KEK is there, after so many re-wrapped records, or when the old one is gone. */
  | { readonly at: 'kekCreated' | 'kekDestroyed' }
  | { readonly at: 'record'; readonly number: number }
  /** Between making a token object and storing its record. */
  | { readonly at: 'object' };

const { hsm, path, moment } = JSON.parse(process.argv[2] as string) as { hsm: SoftHsm; path: string; moment: Moment };
const die = (): void => process.kill(process.pid, 'SIGKILL') as never;

const events = new Proxy({} as KeysEvents, { get: (_, name) => () => (name === moment.at ? die() : undefined) });
const token = await openSoftHsmToken(hsm);
const keys = openKeys({
  path,
  kekLabelPrefix: 'test:kek',
  clock: systemClock,
  token,
  audit: { append: async () => {} },
  events,
});
keys.unlock(TEST_SEALING_KEY);
const call = { tenant: 'acme', deadline: Date.now() + 30_000, signal: new AbortController().signal };

if (moment.at === 'object') {
  const what = {
    tenant: 'acme',
    keyId: 'orphan',
    version: 1,
    algorithm: 'EC-P256',
    purpose: 'sign',
    jose: 'ES256',
  } as const;
  await keys.objects.generate(what, call);
  die();
} else {
  let left = moment.at === 'record' ? moment.number : Number.POSITIVE_INFINITY;
  keys.catalog.watch(() => {
    left -= 1;
    if (left === 0) die();
  });
  await keys.vault.rotateKek('acme', call);
}
