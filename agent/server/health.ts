// grpc.health.v1: "" for the whole program and one service name per part, so that a probe can say which part is broken.
// Invariants: nothing is serving before it was said to be; from the start of a drain nothing is serving again.
import type { Server, ServiceDefinition, UntypedServiceImplementation } from '@grpc/grpc-js';
import { addLazyService, type LoadedService } from './lazy-service.ts';

type Serving = 'SERVING' | 'NOT_SERVING';

export interface Health<Part extends string> {
  set(part: Part, healthy: boolean): void;
  /** For ever NOT_SERVING. */
  drain(): void;
}

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

/** `names`: the service name of each part. */
export const addHealth = <Part extends string>(server: Server, names: Readonly<Record<Part, string>>): Health<Part> => {
  const parts = new Map((Object.keys(names) as Part[]).map((part) => [part, false]));
  let draining = false;
  let publish: ((service: string, status: Serving) => void) | undefined;

  const statuses = (): Record<string, Serving> => {
    const serving = (healthy: boolean): Serving => (healthy && !draining ? 'SERVING' : 'NOT_SERVING');
    const each = [...parts].map(([part, healthy]) => [names[part], serving(healthy)] as const);
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
