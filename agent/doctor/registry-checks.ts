// The way to the registry: credentials that fit together, and a registry that shakes hands with them. Nobody is asked for
// anything: a heartbeat of the doctor's would push the agent's own out.
import type { Config, RegistryConfig } from '../config/config.ts';
import { addressText, secureContext, shakeHands } from '../uplink/channel.ts';
import { type Identity, readIdentity } from '../uplink/identity.ts';
import { type Check, fail, ok, warn } from './check.ts';

const DAY_MS = 86_400_000;

const message = (error: unknown): string => (error instanceof Error ? error.message : String(error));

const checkIdentity = ({ renewAt, expireAt }: Identity): Check => {
  const now = Date.now();
  const until = new Date(expireAt).toISOString();
  if (now >= expireAt)
    return fail('registry', `the certificate ended at ${until}`, 'enrol this host again (agent enrol)');
  const isLate = renewAt === undefined ? expireAt - now < DAY_MS : now - renewAt > (expireAt - renewAt) / 2;
  return isLate
    ? warn(
        'registry',
        `the certificate ends at ${until} and was not renewed`,
        'see why in the log; is the agent running?',
      )
    : ok('registry', `certificate until ${until}, tenants are told by the registry`);
};

const reach = async (registry: RegistryConfig, { key, chain, roots }: Identity): Promise<readonly Check[]> => {
  const { addresses, requireHybrid } = registry;
  const context = secureContext({ key, chain, roots, requireHybrid });
  return Promise.all(
    addresses.map(async (address) => {
      try {
        return ok('registry', `${addressText(address)} answers by ${await shakeHands(address, context)}`);
      } catch (error) {
        const remedy = 'is it running, and reachable from here? does its certificate name this host name?';
        return fail('registry', message(error), remedy);
      }
    }),
  );
};

/** None where the agent stands alone. */
export const checkRegistry = async ({ registry, hostId: host }: Config): Promise<readonly Check[]> => {
  if (registry === undefined) return [];
  const { dir, brought } = registry;
  try {
    const identity = await readIdentity({ dir, host, brought });
    return [checkIdentity(identity), ...(await reach(registry, identity))];
  } catch (error) {
    return [fail('registry', message(error), 'agent enrol --token-file FILE, with a token of the registry')];
  }
};
