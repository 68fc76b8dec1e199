// What administrators do, in the registry's own audit logs: in that of `_platform` and in those of the tenants touched.
// Invariant: no record, no answer; what cannot be undone is recorded before it is done.
import { asRegistryError } from '../errors.ts';
import { adminOf, type Call } from './caller.ts';

export interface RegistryRecord {
  readonly tenant: string;
  readonly principal: string;
  readonly operation: string;
  /** ok, intent or an error code. */
  readonly outcome: string;
  readonly correlationId: string;
  readonly detail: Readonly<Record<string, string | number | boolean | readonly string[]>>;
}

/** Durable when it resolves; rejects with STORE_UNAVAILABLE. */
export interface RecordPort {
  record(record: RegistryRecord): Promise<void>;
}

const PLATFORM = '_platform';
const MAX_NAMED = 32; // tenants in one detail

export const principalOf = ({ kind, name }: { readonly kind: string; readonly name: string }): string =>
  `${kind}/${name}`;

export interface Deed {
  readonly operation: string;
  readonly tenants: readonly string[];
  readonly detail: RegistryRecord['detail'];
  /** Recorded as an intent before it is done. */
  readonly final?: boolean;
}

export const recordDeed = async (port: RecordPort, call: Call, deed: Deed, outcome: string): Promise<void> => {
  const { correlationId, caller } = call;
  const principal = caller === undefined ? '-' : principalOf(caller);
  const tenants = [...new Set([PLATFORM, ...deed.tenants])];
  const named = deed.tenants.length === 0 ? {} : { tenants: deed.tenants.slice(0, MAX_NAMED) };
  for (const tenant of tenants) {
    const detail = tenant === PLATFORM ? { ...deed.detail, ...named } : deed.detail;
    await port.record({ tenant, principal, operation: deed.operation, outcome, correlationId, detail });
  }
};

/**
 * Before an administrator of the platform reads what is a tenant's: to him every tenant is another's. It stands in the
 * logs of `_platform` and of the tenants, or there is no answer. What hosts and tenants' own administrators read does not.
 */
export const recordCrossing = async (
  port: RecordPort,
  call: Call,
  about: { readonly operation: string; readonly tenants: readonly string[]; readonly detail?: Deed['detail'] },
): Promise<void> => {
  const { caller } = call;
  if (caller?.kind !== 'admin' || caller.tenants.length > 0) return;
  const tenants = about.tenants.filter((tenant) => tenant !== PLATFORM);
  if (tenants.length === 0) return;
  await recordDeed(port, call, { operation: about.operation, tenants, detail: about.detail ?? {} }, 'ok');
};

/** A certificate that was given out: in the platform's log, and at an enrolment in those of the tenants too. */
export const recordCertificate = async (
  port: RecordPort,
  { correlationId }: Call,
  about: {
    readonly operation: 'enrol' | 'renew';
    readonly holder: { readonly kind: string; readonly name: string };
    readonly tenants: readonly string[];
    readonly expiresAt: number;
  },
): Promise<void> => {
  const { operation, holder, tenants, expiresAt } = about;
  const detail = { expires: new Date(expiresAt).toISOString() };
  for (const tenant of [PLATFORM, ...tenants]) {
    await port.record({ tenant, principal: principalOf(holder), operation, outcome: 'ok', correlationId, detail });
  }
};

/** Does an administrator's work and records how it went; `deed` is asked again afterwards, when it knows more. */
export const recorded = async <T>(
  port: RecordPort,
  call: Call,
  deed: Deed,
  work: () => Promise<{ readonly result: T; readonly tenants?: readonly string[]; readonly detail?: Deed['detail'] }>,
): Promise<T> => {
  adminOf(call);
  if (deed.final === true) await recordDeed(port, call, deed, 'intent');
  let done: Awaited<ReturnType<typeof work>>;
  try {
    done = await work();
  } catch (thrown) {
    await recordDeed(port, call, deed, asRegistryError(thrown).code);
    throw thrown;
  }
  const detail = { ...deed.detail, ...done.detail };
  await recordDeed(port, call, { ...deed, tenants: done.tenants ?? deed.tenants, detail }, 'ok');
  return done.result;
};
