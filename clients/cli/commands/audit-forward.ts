// mortise audit forward …: the tenant's audit records to a SIEM, each at least once, from where the last run ended.
import { type Command, Option } from 'commander';
import { leaf, parseCount, type Registry } from '../command.ts';
import type { Context } from '../context.ts';
import { CliError } from '../exit-codes.ts';
import type { Destination } from '../forward/destination.ts';
import { sessionOptions } from '../registry/options.ts';
import type { Session, SessionOptions } from '../registry/session.ts';

const KINDS = ['splunk', 'elasticsearch', 'otlp', 'syslog', 'cef'] as const;
type Kind = (typeof KINDS)[number];

interface ForwardOptions extends SessionOptions {
  /** Where set, the logs of all hosts come from the registry. */
  readonly tenant?: string;
  readonly state: string;
  readonly credentialFile?: string;
  readonly ca?: string;
  readonly certificate?: string;
  readonly privateKey?: string;
  readonly index?: string;
  readonly from?: number;
  readonly batch: number;
  readonly once?: boolean;
}

const LARGEST_BATCH = 5000;
const DEFAULT_INDEX = 'logs-mortise.audit-default'; // <type>-<dataset>-<namespace> of Elastic's data streams

const kindOf = (text: string): Kind => {
  const kind = KINDS.find((name) => name === text);
  if (kind === undefined)
    throw new CliError('usage', `"${text}" is no kind of receiver; there are ${KINDS.join(', ')}`);
  return kind;
};

const isThisHost = ({ hostname }: URL): boolean =>
  hostname === 'localhost' || hostname === '[::1]' || /^127(\.\d{1,3}){3}$/.test(hostname);

const urlOf = (kind: Kind, text: string): URL => {
  const url = URL.parse(text);
  if (url === null) throw new CliError('usage', `"${text}" is not a URL`);
  if (url.username !== '' || url.password !== '') {
    throw new CliError('usage', 'credentials in a URL are seen by other processes; use --credential-file');
  }
  const overSyslog = kind === 'syslog' || kind === 'cef';
  if (overSyslog ? url.protocol === 'tls:' : url.protocol === 'https:') return url;
  if (!overSyslog && url.protocol === 'http:') {
    if (isThisHost(url)) return url;
    throw new CliError('usage', 'plain http:// goes to a collector on this host only; take https://');
  }
  throw new CliError('usage', `${kind} takes ${overSyslog ? 'tls://HOST[:6514]' : 'https://HOST[:PORT]'}`);
};

/** Kind → the word before the credential in the Authorization header. */
const SCHEME = { splunk: 'Splunk', elasticsearch: 'ApiKey', otlp: 'Bearer' } as const;

const destinationOf = async (context: Context, kind: Kind, url: URL, options: ForwardOptions) => {
  const { readTlsFiles } = await import('../forward/tls-files.ts');
  const { batch, credentialFile, index } = options;
  const tls = await readTlsFiles(context.io, options);
  if (kind === 'syslog' || kind === 'cef') {
    if (credentialFile !== undefined) throw new CliError('usage', `${kind} has no credential but --certificate`);
    const { createSyslog } = await import('../forward/syslog-connection.ts');
    const { cefMessage, syslogMessage } = await import('../forward/syslog.ts');
    return createSyslog({ kind, url, tls, batch, message: kind === 'cef' ? cefMessage : syslogMessage });
  }
  const { createHttpEndpoint } = await import('../forward/http-endpoint.ts');
  const { readSecretFile } = await import('../forward/secret-file.ts');
  const authorization =
    credentialFile === undefined
      ? undefined
      : async () => `${SCHEME[kind]} ${(await readSecretFile(credentialFile)).toString('latin1').trim()}`;
  await authorization?.();
  const endpoint = createHttpEndpoint({ url, tls, ...(authorization && { authorization }) });
  if (kind === 'splunk') return (await import('../forward/splunk.ts')).createSplunk({ endpoint, index, batch });
  if (kind === 'otlp') return (await import('../forward/otlp.ts')).createOtlp({ endpoint, batch });
  const { createElasticsearch } = await import('../forward/elasticsearch.ts');
  return createElasticsearch({ endpoint, index: index ?? DEFAULT_INDEX, batch });
};

const beginning = async (context: Context, options: ForwardOptions, destination: string) => {
  const { readState } = await import('../forward/state-file.ts');
  const { tenant } = await (await context.client()).whoAmI(context.call);
  const known = await readState(options.state);
  if (known === undefined) return { tenant, destination, next: options.from ?? 0, lastEventId: '' };
  if (options.from !== undefined)
    throw new CliError('usage', `${options.state} says where to go on; --from needs a new one`);
  if (known.tenant !== tenant || known.destination !== destination) {
    throw new CliError(
      'usage',
      `${options.state} is of tenant ${known.tenant} to ${known.destination}; take another file for ${tenant} to ${destination}`,
    );
  }
  return known;
};

const said = (seconds: number): string => (seconds / 1000).toFixed(1);

const forwardAgent = async (context: Context, options: ForwardOptions, destination: Destination): Promise<void> => {
  const [{ checkLog, forward }, { audit }] = await Promise.all([import('../forward/forwarder.ts'), context.client()]);
  const state = await beginning(context, options, destination.name);
  if (state.lastEventId !== '') await checkLog(audit, state);
  context.note(`forwarding the log of ${state.tenant} from position ${state.next} to ${destination.name}\n`);
  let failing = false;
  const next = await forward({
    audit,
    destination,
    statePath: options.state,
    state,
    once: options.once ?? false,
    signal: context.io.signal,
    events: {
      delivered: (event) => {
        if (failing) context.note(`delivered again, up to position ${event.next}\n`);
        failing = false;
      },
      waiting: ({ why, waitMs, next: waits }) => {
        failing = true;
        context.io.stderr.write(`position ${waits} waits: ${why}; next attempt in ${said(waitMs)} s\n`);
      },
    },
  });
  await context.print({
    text: `forwarded up to position ${next}\n`,
    json: { tenant: state.tenant, destination: destination.name, from: state.next, next },
  });
};

/** Sessions for as long as the program runs: a new one after a failure, and well before the certificate ends. */
const sessions = (
  context: Context,
  options: SessionOptions,
): Disposable & { get(): Promise<Session>; drop(): void } => {
  let open: Session | undefined;
  const drop = (): void => {
    open?.[Symbol.dispose]();
    open = undefined;
  };
  const get = async (): Promise<Session> => {
    if (open !== undefined && Date.now() >= open.identity.renewAt) drop();
    open ??= await (await import('../registry/session.ts')).openSession(context, options);
    return open;
  };
  return { get, drop, [Symbol.dispose]: drop };
};

const forwardRegistry = async (
  context: Context,
  options: ForwardOptions & { readonly tenant: string },
  destination: Destination,
): Promise<void> => {
  if (options.from !== undefined) throw new CliError('usage', '--from is for one log; with --tenant there are several');
  const { forwardLedger } = await import('../forward/ledger-forwarder.ts');
  using registry = sessions(context, options);
  context.note(`forwarding the logs of ${options.tenant} in the registry to ${destination.name}\n`);
  let records = 0;
  await forwardLedger({
    sessions: registry,
    tenant: options.tenant,
    destination,
    stateDir: options.state,
    once: options.once ?? false,
    signal: context.io.signal,
    events: {
      delivered: ({ count }) => {
        records += count;
      },
      waiting: ({ why, waitMs }) => void context.io.stderr.write(`waits: ${why}; next attempt in ${said(waitMs)} s\n`),
      stuck: ({ origin, why }) => void context.io.stderr.write(`${origin} does not go on: ${why}\n`),
    },
  });
  await context.print({
    text: `forwarded ${records} records\n`,
    json: { tenant: options.tenant, destination: destination.name, records },
  });
};

const forwardRecords = async (
  context: Context,
  options: ForwardOptions,
  kindText: string,
  address: string,
): Promise<void> => {
  const kind = kindOf(kindText);
  const url = urlOf(kind, address);
  if (options.batch < 1 || options.batch > LARGEST_BATCH)
    throw new CliError('usage', `--batch is 1 to ${LARGEST_BATCH}`);
  const { tenant, registry, adminDir } = options;
  if (tenant === undefined && (registry !== undefined || adminDir !== undefined)) {
    throw new CliError('usage', 'the registry is read with --tenant; without it the agent gives the log');
  }
  const destination = await destinationOf(context, kind, url, options);
  try {
    if (tenant === undefined) await forwardAgent(context, options, destination);
    else await forwardRegistry(context, { ...options, tenant }, destination);
  } finally {
    destination.close();
  }
};

/** Declares `audit forward`. */
export const registerAuditForward = (registry: Registry, audit: Command): void => {
  leaf<ForwardOptions>(
    registry,
    audit,
    'forward <kind> <url>',
    'send the records to a SIEM: splunk, elasticsearch, otlp, syslog, cef',
    forwardRecords,
    (command) =>
      sessionOptions(command)
        .addOption(new Option('--state <path>', 'where it keeps how far it is').makeOptionMandatory())
        .option('--tenant <id>', 'from the registry: the logs of this tenant of all hosts; --state is then a folder')
        .option('--credential-file <file>', "the receiver's token or API key, mode 0600; read for each request")
        .option('--ca <file>', 'PEM certificates that sign the receiver (default: those of the system)')
        .option('--certificate <file>', 'PEM certificate to show to the receiver')
        .option('--private-key <file>', 'its private key, mode 0600')
        .option('--index <name>', 'splunk: index; elasticsearch: data stream (default: logs-mortise.audit-default)')
        .option('--from <index>', 'first position of a new state file', parseCount)
        .option('--batch <n>', 'most records in one delivery', parseCount, 500)
        .option('--once', 'end at the present end of the log'),
  );
};
