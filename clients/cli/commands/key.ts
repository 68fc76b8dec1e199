// mortise key …: the lifecycle of keys.
import { type Command, InvalidArgumentError, Option } from 'commander';
import type { Grant, Key, KeyLimits, KeyState, PublicKeyFormat, Purpose } from '../../typescript/index.ts';
import { algorithmHelp } from '../algorithm-help.ts';
import { collect, collectPair, leaf, parseCount, parseDuration, parseTime, type Registry } from '../command.ts';
import type { Context } from '../context.ts';
import { CliError, type Exit } from '../exit-codes.ts';
import { refuseExisting } from '../files.ts';
import { keyText, primaryOf } from '../key-text.ts';
import { tableText } from '../output.ts';
import { sessionOptions } from '../registry/options.ts';
import type { WaitOptions } from '../registry/wait.ts';

interface LimitOptions {
  readonly softUses?: number;
  readonly hardUses?: number;
  readonly softExpiry?: Date;
  readonly hardExpiry?: Date;
}
/** Options of a new key besides what it is. */
export interface AttributeOptions extends LimitOptions {
  readonly label?: Readonly<Record<string, string>>;
  readonly grant?: readonly Grant[];
  readonly activateAt?: Date;
}
interface CreateOptions extends AttributeOptions {
  readonly purpose: Purpose;
  readonly algorithm?: string;
  readonly jose?: string;
}
interface ListOptions {
  readonly purpose?: Purpose;
  readonly state?: readonly string[];
  readonly label?: Readonly<Record<string, string>>;
  readonly prefix?: string;
}
interface UpdateOptions extends LimitOptions {
  readonly label?: Readonly<Record<string, string>>;
  readonly clearLabels?: boolean;
  readonly clearLimits?: boolean;
  readonly grant?: readonly Grant[];
  readonly clearGrants?: boolean;
  readonly revision?: number;
}
interface RotateOptions extends WaitOptions {
  readonly algorithm?: string;
  readonly jose?: string;
  readonly expectVersion?: number;
  readonly acceptLoss?: boolean;
}
interface ReasonOptions {
  readonly reason?: string;
}

const PURPOSES: readonly Purpose[] = ['encrypt', 'sign', 'mac'];

const collectGrant = (text: string, before: readonly Grant[] = []): readonly Grant[] => {
  const equals = text.indexOf('=');
  if (equals < 1) throw new InvalidArgumentError('Expected PRINCIPAL=OPERATION,OPERATION…');
  return [...before, { principal: text.slice(0, equals), operations: text.slice(equals + 1).split(',') }];
};

const limitsOf = ({ softUses, hardUses, softExpiry, hardExpiry }: LimitOptions): KeyLimits | undefined => {
  const limits = {
    ...(softUses !== undefined && { softUses }),
    ...(hardUses !== undefined && { hardUses }),
    ...(softExpiry !== undefined && { softExpiry }),
    ...(hardExpiry !== undefined && { hardExpiry }),
  };
  return Object.keys(limits).length === 0 ? undefined : limits;
};

const printKey = (context: Context, key: Key): Promise<void> => context.print({ text: keyText(key), json: { key } });

/** Attributes of a new key, for the client. */
export const attributesOf = (options: AttributeOptions) => {
  const limits = limitsOf(options);
  return {
    ...(options.label !== undefined && { labels: options.label }),
    ...(options.grant !== undefined && { grants: options.grant }),
    ...(limits !== undefined && { limits }),
    ...(options.activateAt !== undefined && { activationTime: options.activateAt }),
  };
};

const create = async (context: Context, options: CreateOptions, keyId: string): Promise<void> => {
  const client = await context.client();
  const { key, envelope } = await client.keys.create(
    {
      keyId,
      purpose: options.purpose,
      ...(options.algorithm !== undefined && { algorithm: options.algorithm }),
      ...(options.jose !== undefined && { joseAlgorithm: options.jose }),
      ...attributesOf(options),
    },
    context.call,
  );
  context.warn(envelope);
  await context.print({ text: keyText(key), json: { key, envelope } });
};

const get = async (context: Context, _: object, key: string): Promise<void> => {
  await printKey(context, await (await context.client()).keys.get(key, context.call));
};

const list = async (context: Context, options: ListOptions): Promise<void> => {
  const client = await context.client();
  const keys: Key[] = [];
  const query = {
    ...(options.purpose !== undefined && { purpose: options.purpose }),
    ...(options.state !== undefined && { states: options.state as readonly KeyState[] }),
    ...(options.label !== undefined && { labels: options.label }),
    ...(options.prefix !== undefined && { prefix: options.prefix }),
  };
  for await (const key of client.keys.list(query, context.call)) keys.push(key);
  const rows = keys.map((key) => {
    const primary = primaryOf(key);
    return [key.keyId, key.purpose, key.state, primary?.version, primary?.algorithm, primary?.custody, key.createTime];
  });
  const head = ['KEY', 'PURPOSE', 'STATE', 'VERSION', 'ALGORITHM', 'CUSTODY', 'CREATED'];
  await context.print({ text: keys.length === 0 ? 'no keys\n' : tableText(head, rows), json: { keys } });
};

const update = async (context: Context, options: UpdateOptions, key: string): Promise<void> => {
  const labels = options.clearLabels ? {} : options.label;
  const grants = options.clearGrants ? [] : options.grant;
  const limits = options.clearLimits ? {} : limitsOf(options);
  if (labels === undefined && grants === undefined && limits === undefined) {
    throw new CliError('usage', 'nothing to change: give labels, limits or grants');
  }
  const changes = {
    ...(labels !== undefined && { labels }),
    ...(grants !== undefined && { grants }),
    ...(limits !== undefined && { limits }),
    ...(options.revision !== undefined && { revision: options.revision }),
  };
  await printKey(context, await (await context.client()).keys.update(key, changes, context.call));
};

const waitOptions = (command: Command): Command =>
  sessionOptions(command).option(
    '--wait-for-hosts <time>',
    'with a registry: wait so long until all hosts have applied it; asks as an administrator',
    parseDuration,
  );

/** Prints a key that was changed; where that is asked for, once the hosts of the tenant have applied it. */
const printChanged = async (
  context: Context,
  options: WaitOptions,
  { key, ...rest }: { readonly key: Key; readonly envelope?: unknown },
): Promise<Exit> => {
  if (options.waitForHosts === undefined) {
    await context.print({ text: keyText(key), json: { key, ...rest } });
    return 'ok';
  }
  const { reportArrival, waitForHosts } = await import('../registry/wait.ts');
  let hosts: Awaited<ReturnType<typeof waitForHosts>> | undefined;
  try {
    hosts = await waitForHosts(context, options, key);
  } finally {
    // The change was made, whether or not the registry can be asked.
    await context.print({ text: keyText(key), json: { key, ...rest, ...(hosts && { hosts }) } });
  }
  return reportArrival(context, hosts);
};

const rotate = async (context: Context, options: RotateOptions, name: string): Promise<Exit> => {
  const { key, envelope } = await (await context.client()).keys.rotate(name, {
    ...context.call,
    ...(options.algorithm !== undefined && { algorithm: options.algorithm }),
    ...(options.jose !== undefined && { joseAlgorithm: options.jose }),
    ...(options.expectVersion !== undefined && { expectedVersion: options.expectVersion }),
    ...(options.acceptLoss !== undefined && { acceptLoss: options.acceptLoss }),
  });
  context.warn(envelope);
  return printChanged(context, options, { key, envelope });
};

const publicKey = async (
  context: Context,
  options: {
    readonly format: PublicKeyFormat;
    readonly keyVersion?: number;
    readonly out: string;
    readonly force: boolean;
  },
  name: string,
): Promise<void> => {
  await refuseExisting(options.out, options.force);
  const { publicKey: text, envelope } = await (await context.client()).keys.publicKey(name, {
    ...context.call,
    format: options.format,
    ...(options.keyVersion !== undefined && { version: options.keyVersion }),
  });
  const result = { data: text.trimEnd(), name: 'publicKey', envelope };
  await context.deliver(result, { ...options, mode: 0o644 });
};

const limitOptions = (command: Command): Command =>
  command
    .option('--soft-uses <n>', 'warn after so many encrypt, sign and mac operations', parseCount)
    .option('--hard-uses <n>', 'refuse after so many', parseCount)
    .option('--soft-expiry <time>', 'warn from this time on', parseTime)
    .option('--hard-expiry <time>', 'expire at this time', parseTime);

const algorithmOptions = (command: Command): Command =>
  command
    .option('--algorithm <id>', "one of the list below (default: the policy's)")
    .option('--jose <name>', 'JOSE algorithm where it has several, such as PS256 or RS256 of RSA')
    .addHelpText('after', algorithmHelp());

export const purposeOption = (): Option =>
  new Option('--purpose <purpose>', 'what the key is for, for ever').choices(PURPOSES);
const reasonOption = (command: Command): Command =>
  waitOptions(command).option('--reason <text>', 'why, for the audit trail');
const LABEL = '--label <name=value>';
const GRANT = '--grant <principal=operations>';

const createOptions = (command: Command): Command =>
  attributeOptions(algorithmOptions(command.addOption(purposeOption().makeOptionMandatory())));

export const attributeOptions = (command: Command): Command =>
  limitOptions(command)
    .option(LABEL, 'a label; may be repeated', collectPair)
    .option(GRANT, 'only these principals may use the key; may be repeated', collectGrant)
    .option('--activate-at <time>', 'not to be used before', parseTime);

const listOptions = (command: Command): Command =>
  command
    .addOption(purposeOption())
    .option('--state <state>', 'only keys in this state; may be repeated', collect)
    .option(LABEL, 'only keys with this label; may be repeated', collectPair)
    .option('--prefix <text>', 'only keys whose id begins so');

const updateOptions = (command: Command): Command =>
  limitOptions(command)
    .option('--clear-limits', 'take all limits away')
    .option(LABEL, 'the new labels; may be repeated', collectPair)
    .option('--clear-labels', 'take all labels away')
    .option(GRANT, 'the new grants; may be repeated', collectGrant)
    .option('--clear-grants', 'take all grants away')
    .option('--revision <n>', 'refuse unless this is the present revision', parseCount);

const rotateOptions = (command: Command): Command =>
  algorithmOptions(waitOptions(command))
    .option('--expect-version <n>', 'refuse unless this is the primary version: makes it safe to repeat', parseCount)
    .option('--accept-loss', 'accept that the new algorithm loses an ability of the old one');

const publicOptions = (command: Command): Command =>
  command
    .addOption(new Option('--format <format>', 'form').choices(['jwk', 'pem', 'jwks']).default('jwk'))
    .option('--key-version <n>', 'not the primary version but this one', parseCount)
    .option('--out <file>', 'write to this file', '-')
    .option('--force', 'replace an existing file', false);

const CHANGES_OF_STATE = {
  suspend: 'switch a key off until it is resumed',
  resume: 'switch a suspended key on again',
  destroy: 'start the undo window after which the key material is destroyed',
  restore: 'take a key out of its undo window',
} as const;
type ChangeOfState = keyof typeof CHANGES_OF_STATE;

const changeState =
  (name: ChangeOfState) =>
  async (context: Context, options: ReasonOptions & WaitOptions, id: string): Promise<Exit> => {
    const { keys } = await context.client();
    const call = { ...context.call, ...(options.reason !== undefined && { reason: options.reason }) };
    return printChanged(context, options, { key: await keys[name](id, call) });
  };

const revoke = async (
  context: Context,
  options: ReasonOptions & WaitOptions & { readonly keyVersion?: number },
  id: string,
): Promise<Exit> => {
  const call = {
    ...context.call,
    ...(options.reason !== undefined && { reason: options.reason }),
    ...(options.keyVersion !== undefined && { version: options.keyVersion }),
  };
  return printChanged(context, options, { key: await (await context.client()).keys.revoke(id, call) });
};

/** Declares `key` and its subcommands. */
export const registerKey = (registry: Registry, program: Command): Command => {
  const key = program.command('key').description('make, read and change keys');
  leaf<CreateOptions>(registry, key, 'create <key-id>', 'make a key', create, createOptions);
  leaf(registry, key, 'get <key>', 'show a key', get);
  leaf<ListOptions>(registry, key, 'list', "list the tenant's keys", list, listOptions);
  leaf<UpdateOptions>(registry, key, 'update <key>', 'replace labels, limits or grants', update, updateOptions);
  leaf<RotateOptions>(registry, key, 'rotate <key>', 'make a new primary version', rotate, rotateOptions);
  for (const [name, description] of Object.entries(CHANGES_OF_STATE) as [ChangeOfState, string][]) {
    leaf<ReasonOptions>(registry, key, `${name} <key>`, description, changeState(name), reasonOption);
  }
  leaf(registry, key, 'revoke <key>', 'withdraw a key, or one version of it, for ever', revoke, (command) =>
    reasonOption(command).option('--key-version <n>', 'only this retired version', parseCount),
  );
  leaf(registry, key, 'public <key>', 'print the public key', publicKey, publicOptions);
  return key;
};
