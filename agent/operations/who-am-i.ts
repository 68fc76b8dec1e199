// WhoAmI: the caller as the agent sees it, to try credentials out.
import { type Performed, type Ports, perform } from './perform.ts';
import type { Call, Caller, Peer } from './ports/call.ts';

export type WhoAmIOutput = { readonly caller: Caller; readonly peer: Peer };

export const whoAmI = (ports: Ports, call: Call): Promise<Performed<WhoAmIOutput>> =>
  perform(ports, call, 'who-am-i', () => ({ caller: call.caller, peer: call.peer }));
