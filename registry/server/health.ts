// grpc.health.v1: "" for the whole registry and one service name per part, so that a probe can say which part is broken.
// Invariants: nothing is serving before it was said to be; from the start of a drain nothing is serving again.
import type { Server, ServiceDefinition, UntypedServiceImplementation } from '@grpc/grpc-js';
import { addLazyService, type LoadedService } from '../../agent/server/lazy-service.ts';

/** What can be broken by itself. */
export const PARTS = ['store', 'policies', 'catalog', 'ledger'] as const;
export type Part = (typeof PARTS)[number];

type Serving = 'SERVING' | 'NOT_SERVING';

export interface Health {
  set(part: Part, healthy: boolean): void;
  /** For ever NOT_SERVING. */
  drain(): void;
}

const nameOf = (part: Part): string => `mortise.registry.${part}`;

/** Runs a package's `addToServer` to get at what it would add. */
export const capture = (add: (server: Server) => void): LoadedService => {
  let captured: LoadedService | undefined;
  add({
    addService: (definition: ServiceDefinition, implementation: UntypedServiceImplementation) => {
      captured = { definition: definition as never, implementation };
    },
  } as unknown as Server);
  if (captured === undefined) throw new Error('the package added no service');
  return captured;
};

export const addHealth = (server: Server): Health => {
  const parts = new Map<Part, boolean>(PARTS.map((part) => [part, false]));
  let draining = false;
  let publish: ((service: string, status: Serving) => void) | undefined;

  const statuses = (): Record<string, Serving> => {
    const serving = (healthy: boolean): Serving => (healthy && !draining ? 'SERVING' : 'NOT_SERVING');
    const each = [...parts].map(([part, healthy]) => [nameOf(part), serving(healthy)] as const);
    return { '': serving([...parts.values()].every(Boolean)), ...Object.fromEntries(each) };
  };

  const announce = (before: Record<string, Serving>): void => {
    for (const [name, status] of Object.entries(statuses())) if (before[name] !== status) publish?.(name, status);
  };

  addLazyService(server, {
    name: 'grpc.health.v1.Health',
    methods: { Check: 'unary', List: 'unary', Watch: 'server-stream' },
    load: async () => {
      const { HealthImplementation } = await import('grpc-health-check');
      const health = new HealthImplementation(statuses());
      publish = (service, status) => health.setStatus(service, status);
      return capture((target) => health.addToServer(target));
    },
  });

  return {
    set: (part, healthy) => {
      const before = statuses();
      parts.set(part, healthy);
      announce(before);
    },
    drain: () => {
      const before = statuses();
      draining = true;
      announce(before);
    },
  };
};
