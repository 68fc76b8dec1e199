// RotateTenantKek: a new key encryption key for the tenant, with every wrapped blob moved to it. The intent is recorded
// first; a run that was cut off is taken up by the next.
import { type Performed, type Ports, perform } from './perform.ts';
import type { Call } from './ports/call.ts';

export interface RotateTenantKekOutput {
  readonly version: number;
  readonly rewrapped: number;
}

export const rotateTenantKek = (ports: Ports, call: Call): Promise<Performed<RotateTenantKekOutput>> =>
  perform(ports, call, 'rotate-tenant-kek', async (run) => {
    const algorithm = 'AES-256';
    run.about({ requested: '', algorithm });
    run.decide({ algorithm });
    await run.intend();
    const { version, rewrapped } = await ports.vault.rotateKek(run.tenant, run.token);
    run.note({ kekVersion: version, rewrapped });
    return { version, rewrapped };
  });
