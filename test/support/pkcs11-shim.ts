// Builds test/hsm/shim, a PKCS#11 module over a real one that imposes a vendor's rules and breaks on demand, and speaks its
// control protocol (test/hsm/shim/README.md). Every change is in force for the next call when the function returns.
import { execFile } from 'node:child_process';
import { closeSync, openSync, readFileSync, readSync, renameSync, writeFileSync, writeSync } from 'node:fs';
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';

const SOURCES = join(import.meta.dirname, '../hsm/shim');
const MAX_FAULTS = 4096;
const MAX_CLIENTS = 64;
const STATE_BYTES = 16 + 4 * (256 + 2 * MAX_FAULTS + 2 * MAX_CLIENTS); // state_t of shim.h
const CALLS_AT = 16;
const FIRED_AT = CALLS_AT + 4 * (256 + MAX_FAULTS);

/** A function of the module, for example `C_Sign`. */
export type FunctionName = `C_${string}`;

/** What a vendor's module does otherwise; each may be absent. Numbers of mechanisms, attributes and CKR values are PKCS#11's. */
export interface ShimRules {
  /** CK_INFO and CK_TOKEN_INFO, by which the agent picks a profile. */
  readonly manufacturer?: string;
  readonly description?: string;
  readonly libraryVersion?: string;
  readonly tokenLabel?: string;
  readonly tokenManufacturer?: string;
  readonly tokenModel?: string;
  readonly firmware?: string;
  readonly hide?: readonly number[];
  /** Where given, all others are hidden. */
  readonly show?: readonly number[];
  readonly refuse?: readonly { readonly in: FunctionName; readonly mechanism?: number; readonly ckr: number }[];
  /** Most bytes of the third argument: data of an operation, or random bytes. */
  readonly limits?: readonly { readonly in: FunctionName; readonly bytes: number; readonly ckr: number }[];
  /** Who makes the IV of C_Encrypt with AES-GCM: the caller, or the token, which appends it or writes it into zeroes. */
  readonly iv?: { readonly by: 'caller' | 'appended' | 'zeroed'; readonly bytes?: number };
  /** `colon`: refused without one, and what follows it is the real PIN. `ignored`: any PIN will do. `refused`: no login. */
  readonly login?: { readonly form: 'plain' | 'colon' | 'ignored' | 'refused'; readonly ckr?: number };
  /** C_Login answers CKR_PIN_LOCKED after so many refusals. */
  readonly lockout?: number;
  /** What C_OpenSession answers without CKF_RW_SESSION. */
  readonly readOnly?: number;
  readonly maxSessions?: { readonly count: number; readonly ckr?: number };
  /** Sessions of all processes together. */
  readonly allSessions?: { readonly count: number; readonly ckr?: number };
  /** The library forgets a client that made no call for so long. */
  readonly idleMs?: number;
  /** Token objects that were made through the shim. */
  readonly maxObjects?: { readonly count: number; readonly ckr?: number };
  /** What C_GetAttributeValue answers for an attribute: the value, or that there is none. */
  readonly attributes?: readonly { readonly type: number; readonly value: Buffer | 'absent' }[];
  /** What becomes of an attribute of a template on its way to the real module. */
  readonly templates?: readonly {
    readonly in: FunctionName | '*';
    readonly type: number;
    readonly value: Buffer | 'left-out';
  }[];
}

export type FaultAction =
  | { readonly return: number }
  /** The real call is made and its result withheld. */
  | { readonly returnAfter: number }
  | { readonly delayMs: number }
  /** Until it is withdrawn. */
  | 'hang'
  | 'segv'
  | 'abort'
  /** A bit of the result is turned over; random bytes become zeroes. */
  | 'corrupt'
  | 'lose-session';

export interface FaultOptions {
  readonly in: FunctionName | '*';
  readonly does: FaultAction;
  /** Calls that it lets pass first. */
  readonly skip?: number;
  /** Then so many that it meets; without it all. */
  readonly times?: number;
  /** Only operations with keys that are token objects: none of a self-test. */
  readonly stored?: boolean;
  /** Only operations whose data begins so. */
  readonly data?: Buffer;
}

export interface Fault {
  /** How often it met a call, in all processes. */
  fired(): number;
  withdraw(): void;
}

export interface Pkcs11ShimOptions {
  /** An existing folder of its own: the module, `control` and `state` are put into it. */
  readonly folder: string;
  /** The module to forward to. */
  readonly real: string;
  /** Its user PIN; needed where a rule or `changePin` has another one given. */
  readonly pin?: string;
  readonly rules?: ShimRules;
  /** File name of the module, where a vendor's shall be recognised by it. */
  readonly name?: string;
}

const hex = (value: number): string => `0x${value.toString(16)}`;

const ruleLines = (rules: ShimRules): string[] => {
  const named = (key: string, value: string | undefined): string[] => (value === undefined ? [] : [`${key} ${value}`]);
  const bound = (key: string, of: { count: number; ckr?: number } | undefined): string[] =>
    of === undefined ? [] : [`${key} ${of.count}${of.ckr === undefined ? '' : ` ${hex(of.ckr)}`}`];
  return [
    ...named('manufacturer', rules.manufacturer),
    ...named('description', rules.description),
    ...named('library-version', rules.libraryVersion),
    ...named('token-label', rules.tokenLabel),
    ...named('token-manufacturer', rules.tokenManufacturer),
    ...named('token-model', rules.tokenModel),
    ...named('firmware', rules.firmware),
    ...(rules.hide ?? []).map((mechanism) => `hide ${hex(mechanism)}`),
    ...(rules.show ?? []).map((mechanism) => `show ${hex(mechanism)}`),
    ...(rules.refuse ?? []).map(
      (row) => `refuse ${row.in} ${row.mechanism === undefined ? '*' : hex(row.mechanism)} ${hex(row.ckr)}`,
    ),
    ...(rules.limits ?? []).map((row) => `limit ${row.in} ${row.bytes} ${hex(row.ckr)}`),
    ...(rules.iv === undefined ? [] : [`iv ${rules.iv.by} ${rules.iv.bytes ?? 12}`]),
    ...(rules.login === undefined
      ? []
      : [`login ${rules.login.form}${rules.login.ckr === undefined ? '' : ` ${hex(rules.login.ckr)}`}`]),
    ...(rules.lockout === undefined ? [] : [`lockout ${rules.lockout}`]),
    ...(rules.readOnly === undefined ? [] : [`read-only ${hex(rules.readOnly)}`]),
    ...bound('max-sessions', rules.maxSessions),
    ...bound('all-sessions', rules.allSessions),
    ...(rules.idleMs === undefined ? [] : [`idle ${rules.idleMs}`]),
    ...bound('max-objects', rules.maxObjects),
    ...(rules.attributes ?? []).map(
      (row) => `attribute ${hex(row.type)} ${row.value === 'absent' ? '-' : row.value.toString('hex')}`,
    ),
    ...(rules.templates ?? []).map(
      (row) => `template ${row.in} ${hex(row.type)} ${row.value === 'left-out' ? '-' : row.value.toString('hex')}`,
    ),
  ];
};

const actionText = (does: FaultAction): string => {
  if (typeof does === 'string') return does;
  if ('return' in does) return `return ${hex(does.return)}`;
  return 'returnAfter' in does ? `return-after ${hex(does.returnAfter)}` : `delay ${does.delayMs}`;
};
const faultLine = (id: number, fault: FaultOptions): string => {
  const words = [`fault ${id} ${fault.in}`];
  if (fault.skip !== undefined) words.push(`skip ${fault.skip}`);
  if (fault.times !== undefined) words.push(`times ${fault.times}`);
  if (fault.stored === true) words.push('stored');
  if (fault.data !== undefined) words.push(`data ${fault.data.toString('hex')}`);
  return [...words, actionText(fault.does)].join(' ');
};

const isAlive = (pid: number): boolean => {
  try {
    return pid !== 0 && process.kill(pid, 0);
  } catch {
    return false;
  }
};

/** Numbers of the functions, from the list in shim.h. */
const functionNumbers = (): ReadonlyMap<string, number> => {
  const header = readFileSync(join(SOURCES, 'shim.h'), 'utf8');
  const list = /#define FUNCTIONS\(X\)([\s\S]*?)\nenum/.exec(header)?.[1] ?? '';
  return new Map([...list.matchAll(/X\((\w+)\)/g)].map(([, name], index) => [`C_${name}`, index]));
};

export class Pkcs11Shim {
  /** Path of the module, for PKCS11_LIBRARY_PATH. */
  readonly library: string;
  readonly folder: string;
  readonly #real: string;
  readonly #pin: string | undefined;
  readonly #state: number;
  readonly #numbers = functionNumbers();
  readonly #faults = new Map<number, string>();
  #rules: ShimRules;
  #givenPin: string | undefined;
  #nextFault = 0;
  #sessionEpoch = 0;
  #clientEpoch = 0;
  #lost: number | undefined;
  #clientLost: number | undefined;
  #absent: number | undefined;
  #half = false;
  #version = 0;

  constructor({ folder, real, pin, rules = {}, name = 'shim.so' }: Pkcs11ShimOptions) {
    this.folder = folder;
    this.library = join(folder, name);
    this.#real = real;
    this.#pin = pin;
    this.#rules = rules;
    writeFileSync(join(folder, 'state'), Buffer.alloc(STATE_BYTES));
    this.#state = openSync(join(folder, 'state'), 'r+');
    this.#write();
  }

  /** Replaces all rules. */
  setRules(rules: ShimRules): void {
    this.#rules = rules;
    this.#write();
  }
  addFault(fault: FaultOptions): Fault {
    const id = this.#nextFault;
    if (id >= MAX_FAULTS) throw new Error(`the shim counts ${MAX_FAULTS} faults at most`);
    this.#nextFault += 1;
    this.#faults.set(id, faultLine(id, fault));
    this.#write();
    return {
      fired: () => this.#read(FIRED_AT + 4 * id),
      withdraw: () => {
        this.#faults.delete(id);
        this.#write();
      },
    };
  }
  /** All sessions that are open now are lost, and the login with them; calls on them answer `ckr`. */
  loseSessions(ckr?: number): void {
    this.#lost = ckr;
    this.#sessionEpoch += 1;
    this.#write();
  }
  /** The token is not there; calls on sessions answer `ckr`, CKR_DEVICE_REMOVED by default. */
  removeToken(ckr = 0x32): void {
    this.#absent = ckr;
    this.#sessionEpoch += 1;
    this.#write();
  }
  returnToken(): void {
    this.#absent = undefined;
    this.#write();
  }
  /** Every call answers `ckr`, by default CKR_CRYPTOKI_NOT_INITIALIZED, until C_Initialize is called anew. */
  forgetClient(ckr?: number): void {
    this.#clientLost = ckr;
    this.#clientEpoch += 1;
    this.#sessionEpoch += 1;
    this.#write();
  }
  /** About half of the objects cannot be found or used, always the same ones. */
  hideHalf(hidden: boolean): void {
    this.#half = hidden;
    this.#write();
  }
  /** From now on C_Login takes this PIN alone. */
  changePin(pin: string): void {
    if (this.#pin === undefined) throw new Error('the shim was not told the PIN of the real token');
    this.#givenPin = pin;
    this.#write();
  }
  /** Calls of a function since the shim was made, in all processes. */
  calls(name: FunctionName): number {
    const number = this.#numbers.get(name);
    if (number === undefined) throw new Error(`no function is called ${name}`);
    return this.#read(CALLS_AT + 4 * number);
  }
  refusedLogins(): number {
    return this.#read(4);
  }
  /** Token objects that were made through the shim and are still there. */
  objects(): number {
    return this.#read(8);
  }
  /** The most sessions that all processes together had open at once. */
  mostSessions(): number {
    return this.#read(12);
  }
  /** The sessions that processes have open which are alive. */
  openSessions(): number {
    const rows = Array.from({ length: MAX_CLIENTS }, (_, at) => STATE_BYTES - 8 * (MAX_CLIENTS - at));
    return rows.reduce((sum, at) => sum + (isAlive(this.#read(at)) ? this.#read(at + 4) : 0), 0);
  }
  close(): void {
    closeSync(this.#state);
  }

  #read(at: number): number {
    const bytes = Buffer.alloc(4);
    readSync(this.#state, bytes, 0, 4, at);
    return bytes.readUInt32LE(0);
  }
  #write(): void {
    const lines = [`real ${this.#real}`, ...ruleLines(this.#rules), ...this.#faults.values()];
    if (this.#pin !== undefined) lines.push(`pin ${this.#pin}`);
    if (this.#givenPin !== undefined) lines.push(`given-pin ${this.#givenPin}`);
    if (this.#lost !== undefined) lines.push(`lost ${hex(this.#lost)}`);
    if (this.#clientLost !== undefined) lines.push(`client-lost ${hex(this.#clientLost)}`);
    if (this.#absent !== undefined) lines.push(`absent ${hex(this.#absent)}`);
    if (this.#half) lines.push('half');
    lines.push(`session-epoch ${this.#sessionEpoch}`, `client-epoch ${this.#clientEpoch}`);
    const path = join(this.folder, 'control');
    writeFileSync(`${path}.new`, `${lines.join('\n')}\n`, { mode: 0o600 });
    renameSync(`${path}.new`, path);
    this.#version += 1;
    const bytes = Buffer.alloc(4);
    bytes.writeUInt32LE(this.#version);
    writeSync(this.#state, bytes, 0, 4, 0);
  }
}

const compile = async (): Promise<Buffer> => {
  const folder = await mkdtemp(join(tmpdir(), 'mortise-shim-'));
  const sources = (await readdir(SOURCES)).filter((name) => name.endsWith('.c')).map((name) => join(SOURCES, name));
  const flags = ['-std=gnu11', '-shared', '-fPIC', '-O1', '-fvisibility=hidden', '-pthread'];
  const library = join(folder, 'shim.so');
  await promisify(execFile)('cc', [...flags, '-o', library, ...sources, '-ldl']);
  const bytes = await readFile(library);
  await rm(folder, { recursive: true });
  return bytes;
};

const compiled: { once?: Promise<Buffer> } = {};

/** Puts the module into the folder, which is made where it is not there; it is compiled once a process. */
export const makePkcs11Shim = async (options: Pkcs11ShimOptions): Promise<Pkcs11Shim> => {
  compiled.once ??= compile();
  await mkdir(options.folder, { recursive: true });
  const shim = new Pkcs11Shim(options);
  await writeFile(shim.library, await compiled.once, { mode: 0o755 });
  return shim;
};
