// `registry serve`: from the configuration to a serving registry, and from a signal to its end.
import { EXIT, type ExitCode, watchProcess } from '../../agent/lifecycle.ts';
import { SystemdNotifier } from '../../agent/systemd.ts';
import { createLogger, type Logger } from '../../agent/telemetry/logger.ts';
import { startMetricsServer } from '../../agent/telemetry/metrics-server.ts';
import { openStore } from '../assembly/opening.ts';
import type { Config } from '../config/config.ts';
import { type Registry, startRegistry } from '../registry.ts';
import { createEvents, type Events } from '../telemetry/events.ts';
import { FIELDS } from '../telemetry/log-fields.ts';
import { createMetrics, type Metrics } from '../telemetry/metrics.ts';
import { inWords, type RawEnvironment, readConfig } from './configuration.ts';

// For closing what is left after the calls: the store.
const CLOSING_MS = 10_000;

export interface ServeInput {
  readonly environment: RawEnvironment;
  readonly version: string;
  /** Lines for the person or supervisor that starts the registry, before there is a log. */
  readonly complain: (line: string) => void;
}

/** Runs until the process is to end; the exit code says why. */
export const serve = async (input: ServeInput): Promise<ExitCode> => {
  const loaded = readConfig(input.environment, input.complain);
  if (loaded === undefined) return EXIT.config;
  const { config, warnings } = loaded;
  const logger = createLogger({ level: config.logLevel, table: FIELDS, base: { replica: config.replica } });
  const metrics = createMetrics({ processMetrics: config.metrics !== undefined });
  const events = createEvents({ logger, metrics });
  const root = process.getuid?.() === 0;
  events.registry.starting({ version: input.version, node: process.versions.node, root, pid: process.pid });
  for (const warning of warnings) events.registry.configWarning({ warning });
  try {
    return await live({ ...input, config, logger, metrics, events });
  } catch (error) {
    events.registry.startFailed({ error });
    input.complain(`mortise registry: cannot start: ${inWords(error)}`);
    return EXIT.failure;
  } finally {
    logger.flush();
  }
};

interface Life extends ServeInput {
  readonly config: Config;
  readonly logger: Logger<typeof FIELDS>;
  readonly metrics: Metrics;
  readonly events: Events;
}

const live = async ({ config, version, logger, metrics, events }: Life): Promise<ExitCode> => {
  using systemd = new SystemdNotifier(config);
  let registry: Registry | undefined;
  using lifecycle = watchProcess({
    process,
    drainMs: config.drainMs + CLOSING_MS,
    events: events.registry,
    reload: () => {
      events.registry.reloading();
      void systemd.reload(async () => registry?.reload());
    },
    flush: () => logger.flush(),
    abandon: () => undefined,
  });
  const stoppingAt = lifecycle.ended.then(() => {
    systemd.tell('STOPPING=1');
    return performance.now();
  });
  {
    await using stack = new AsyncDisposableStack();
    const notReady = (): string | undefined => (registry === undefined ? 'starting' : registry.notReady());
    if (config.metrics !== undefined) {
      const server = stack.use(await startMetricsServer(metrics, config.metrics, notReady));
      events.registry.metricsServed({ address: server.address });
    }
    const store = await openStore(config, events.store);
    stack.defer(() => store.close());
    registry = stack.use(await startRegistry({ config, version, events, store }));
    const { host, port } = registry.address;
    systemd.tell('READY=1\nSTATUS=Serving');
    events.registry.ready({ durationMs: performance.now(), address: `${host}:${port}` });
    await lifecycle.ended;
  }
  events.registry.stopped({ durationMs: performance.now() - (await stoppingAt) });
  return lifecycle.ended;
};
