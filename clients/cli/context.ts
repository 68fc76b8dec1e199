// What every command is given: the global options, a client opened when it is needed, and a way to print. The client
// library is imported only then, so that commands without an agent start quickly.
import { stat } from 'node:fs/promises';
import { connect as connectSocket } from 'node:net';
import type { CallOptions, Envelope, MortiseClient } from '../typescript/index.ts';
import { CliError } from './exit-codes.ts';
import { type Encoding, encodeBytes, encodingFor, STREAM, writeFileWhole, writeStream } from './files.ts';
import type { Io } from './io.ts';
import { jsonText, warningsText } from './output.ts';

export const DEFAULT_SOCKET = '/run/mortise/agent.sock';

/** Options that every command takes. */
export interface GlobalOptions {
  readonly socket?: string;
  readonly tokenFile?: string;
  readonly output?: 'text' | 'json';
  /** Milliseconds. */
  readonly timeout?: number;
}

export class Context {
  readonly io: Io;
  readonly json: boolean;
  readonly socketPath: string;
  readonly #tokenFile: string | undefined;
  readonly #timeoutMs: number | undefined;
  #client: MortiseClient | undefined;

  constructor(input: { io: Io; options: GlobalOptions }) {
    const { io, options } = input;
    this.io = io;
    this.json = options.output === 'json';
    this.socketPath = options.socket ?? (io.env['MORTISE_SOCKET'] || DEFAULT_SOCKET);
    this.#tokenFile = options.tokenFile ?? (io.env['MORTISE_TOKEN_FILE'] || undefined);
    this.#timeoutMs = options.timeout;
  }

  /** The timeout that was asked for, and Ctrl-C. */
  get call(): CallOptions {
    return { signal: this.io.signal, ...(this.#timeoutMs !== undefined && { deadlineMs: this.#timeoutMs }) };
  }

  /** The client; fails at once, in words, where no agent listens. Options count with the first call. */
  async client(options: { readonly retry?: false } = {}): Promise<MortiseClient> {
    if (this.#client !== undefined) return this.#client;
    const [{ connect, TokenFile }] = await Promise.all([import('../typescript/index.ts'), probe(this.socketPath)]);
    const file = this.#tokenFile;
    this.#client = connect({
      socketPath: this.socketPath,
      ...(file !== undefined && { token: new TokenFile(file) }),
      ...options,
    });
    return this.#client;
  }

  close(): void {
    this.#client?.close();
  }

  /** Prints the answer in the format asked for. */
  async print(answer: { readonly text: string; readonly json: unknown }): Promise<void> {
    await writeStream(this.io, this.json ? jsonText(answer.json) : answer.text);
  }

  /** A remark for people: on standard error, so that pipes stay clean, and not with --output json. */
  note(text: string): void {
    if (!this.json) this.io.stderr.write(text);
  }

  /** Prints warnings of an answer where people see them. */
  warn(envelope: Envelope): void {
    this.note(warningsText(envelope.warnings));
  }

  /** Text made by an operation: to the file, else to standard output, else inside the JSON. */
  async deliver(
    result: { readonly data: Buffer | string; readonly name: string; readonly envelope?: Envelope },
    options: { readonly out: string; readonly force: boolean; readonly mode?: number; readonly encoding?: Encoding },
  ): Promise<void> {
    const { data, name, envelope } = result;
    const content =
      typeof data === 'string' ? `${data}\n` : encodeBytes(data, encodingFor(options.out, options.encoding));
    const toStream = options.out === STREAM;
    if (!toStream) await writeFileWhole(options.out, content, options);
    if (envelope !== undefined) this.warn(envelope);
    if (this.json)
      await this.print({ text: '', json: { ...(toStream ? { [name]: data } : { out: options.out }), envelope } });
    else if (toStream) await writeStream(this.io, content);
    else this.note(`wrote ${options.out}\n`);
  }
}

const START = 'start the agent ("npm start" runs one to try), or name its socket with --socket or $MORTISE_SOCKET';

/** Connects once and hangs up: the kernel says more about a dead socket than the RPC library does. */
const probe = async (path: string): Promise<void> => {
  const socket = connectSocket(path);
  try {
    await new Promise<void>((resolve, reject) => socket.once('connect', resolve).once('error', reject));
  } catch (cause) {
    throw new CliError('retryable', await unreachable(path, (cause as NodeJS.ErrnoException).code ?? ''), cause);
  } finally {
    socket.destroy();
  }
};

const unreachable = async (path: string, code: string): Promise<string> => {
  switch (code) {
    case 'ENOENT':
      return `no agent: there is no socket at ${path}; ${START}`;
    case 'ECONNREFUSED':
      return `no agent: nobody listens on ${path} (left over from an agent that was killed?); ${START}`;
    case 'EACCES': {
      const group = await stat(path).then(
        ({ gid, mode }) => ` (group ${gid}, mode ${(mode & 0o777).toString(8)})`,
        () => '',
      );
      return `not allowed to connect to ${path}${group}; your user must be in the group of the socket`;
    }
    default:
      return `cannot connect to ${path}: ${code}; ${START}`;
  }
};
