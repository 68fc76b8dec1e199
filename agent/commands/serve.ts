// `agent serve`: from the configuration to a serving agent, and from a signal to its end.
import { type Agent, startAgent } from '../agent.ts';
import { type Config, ConfigError, loadConfig } from '../config/config.ts';
import { collectGarbage, countBuffersAsHeap } from '../garbage.ts';
import { forbidMemoryDumps } from '../hardening.ts';
import { EXIT, type ExitCode, watchProcess } from '../lifecycle.ts';
import { returnMemory } from '../resident.ts';
import { SystemdNotifier } from '../systemd.ts';
import { createEvents, type Events } from '../telemetry/events.ts';
import { FIELDS } from '../telemetry/log-fields.ts';
import { createLogger, type Logger } from '../telemetry/logger.ts';
import { createMetrics, type Metrics } from '../telemetry/metrics.ts';
import { startMetricsServer } from '../telemetry/metrics-server.ts';

// For closing what is left after the calls: the last checkpoints, the token's logout.
const CLOSING_MS = 10_000;

export interface ServeInput {
  readonly environment: Readonly<Record<string, string | undefined>>;
  readonly version: string;
  /** Lines for the person or supervisor that starts the agent, before there is a log. */
  readonly complain: (line: string) => void;
}

const readConfig = ({ environment, complain }: ServeInput): ReturnType<typeof loadConfig> | undefined => {
  try {
    return loadConfig(environment);
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    complain('mortise agent: the configuration cannot be used');
    for (const line of error.message.split('\n')) complain(`  ${line}`);
    return undefined;
  }
};

const isRefusedRoot = ({ allowRoot }: Config): boolean => process.getuid?.() === 0 && !allowRoot;

const announce = (events: Events, { version }: ServeInput, config: Config, warnings: readonly string[]): void => {
  const root = process.getuid?.() === 0;
  events.agent.starting({ version, node: process.versions.node, host: config.hostId, root, pid: process.pid });
  for (const warning of warnings) events.agent.configWarning({ warning });
  if (!forbidMemoryDumps()) events.agent.dumpsAllowed();
};

/** Runs until the process is to end; the exit code says why. */
export const serve = async (input: ServeInput): Promise<ExitCode> => {
  const loaded = readConfig(input);
  if (loaded === undefined) return EXIT.config;
  const { config, warnings } = loaded;
  if (isRefusedRoot(config)) {
    input.complain('mortise agent: refuses to run as root; run it as a user of its own, or set MORTISE_ALLOW_ROOT=yes');
    return EXIT.config;
  }
  const logger = createLogger({ level: config.logLevel, table: FIELDS, base: { host: config.hostId } });
  const metrics = createMetrics({ processMetrics: config.metrics !== undefined });
  const events = createEvents({ logger, metrics });
  announce(events, input, config, warnings);
  try {
    return await live({ ...input, config, logger, metrics, events });
  } catch (error) {
    events.agent.startFailed({ error });
    input.complain(`mortise agent: cannot start: ${error instanceof Error ? error.message : 'unknown error'}`);
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

const live = async ({ config, version, environment, logger, metrics, events }: Life): Promise<ExitCode> => {
  countBuffersAsHeap();
  using systemd = new SystemdNotifier(config);
  let agent: Agent | undefined;
  using lifecycle = watchProcess({
    process,
    drainMs: config.drainMs + CLOSING_MS,
    events: events.agent,
    reload: () => {
      events.agent.reloading();
      void systemd.reload(async () => agent?.reload());
    },
    flush: () => logger.flush(),
    abandon: () => agent?.abandon(),
  });
  const stoppingAt = lifecycle.ended.then(() => {
    systemd.tell('STOPPING=1');
    return performance.now();
  });
  {
    await using stack = new AsyncDisposableStack();
    const notReady = (): string | undefined => (agent === undefined ? 'starting' : agent.notReady());
    if (config.metrics !== undefined) {
      const server = stack.use(await startMetricsServer(metrics, config.metrics, notReady));
      events.agent.metricsServed({ address: server.address });
    }
    agent = stack.use(await startAgent({ config, version, environment, events }));
    void tellReadiness(agent, { config, systemd, events });
    await lifecycle.ended;
  }
  events.agent.stopped({ durationMs: performance.now() - (await stoppingAt) });
  return lifecycle.ended;
};

/** READY once calls are answered. Where they are not yet, the service counts as started and its status says what it waits for. */
const tellReadiness = async (
  agent: Agent,
  { config, systemd, events }: { config: Config; systemd: SystemdNotifier; events: Events },
): Promise<void> => {
  const { waitingFor } = await agent.settled;
  // A unit that never gets ready would be killed and started again, and the PIN tried again: better a living unit.
  if (waitingFor !== undefined) systemd.tell(`READY=1\nSTATUS=Not serving: ${waitingFor}`);
  try {
    await agent.ready;
  } catch {
    return; // it ends before it was ready, which the end itself tells
  }
  systemd.tell('READY=1\nSTATUS=Serving');
  events.agent.ready({ durationMs: performance.now(), path: config.socket.path, stages: { ...agent.stages } });
  setImmediate(() => {
    collectGarbage();
    returnMemory();
  });
};
