// Syslog over TLS (RFC 5425), which has no acknowledgement of its own. Each delivery therefore is a connection: it ends
// with our close_notify, and counts only once the receiver has closed in its turn, which it does when it has read to that
// end. Bytes that were merely written die with a connection and nobody knows. What stays open is a receiver that closes of
// its own accord while the last bytes are on their way to it.
import { connect, type TLSSocket } from 'node:tls';
import type { AuditRecord } from '../../typescript/index.ts';
import { DeliveryError, type Destination } from './destination.ts';
import { frame } from './syslog.ts';
import type { TlsFiles } from './tls-files.ts';

const SYSLOG_TLS_PORT = 6514; // RFC 5425 section 4.1
const CLOSE_MS = 30_000;

export const createSyslog = (parts: {
  readonly kind: 'syslog' | 'cef';
  readonly url: URL;
  readonly tls: TlsFiles;
  readonly message: (record: AuditRecord) => string;
  readonly batch: number;
}): Destination => {
  const { kind, url, tls, message, batch } = parts;
  const host = url.hostname.replace(/^\[|\]$/g, '');
  const port = url.port === '' ? SYSLOG_TLS_PORT : Number(url.port);
  let session: Buffer | undefined; // the next connection resumes this one: no second handshake with certificates

  const open = (): TLSSocket => {
    const socket = connect({
      host,
      port,
      ...tls,
      minVersion: 'TLSv1.2',
      ...(/^[\d.]+$|:/.test(host) ? {} : { servername: host }),
      ...(session !== undefined && { session }),
    });
    socket.on('session', (next: Buffer) => {
      session = next;
    });
    return socket;
  };

  /** Resolves when the receiver has closed after reading everything. */
  const send = (socket: TLSSocket, text: string): Promise<void> =>
    new Promise((resolve, reject) => {
      let readToTheEnd = false;
      socket.once('error', reject);
      socket.once('end', () => {
        readToTheEnd = socket.writableFinished; // its close_notify or FIN; a reset comes as an error instead
      });
      socket.once('close', () => {
        if (readToTheEnd) resolve();
        else reject(new Error('the receiver closed before it had read everything'));
      });
      socket.once('secureConnect', () => socket.end(text));
      socket.resume(); // what a receiver says is nothing to us, its end is
    });

  return {
    name: `${kind} ${url.protocol}//${host}:${port}`,
    batch,
    deliver: async (records, signal) => {
      signal.throwIfAborted();
      const socket = open();
      const timely = AbortSignal.any([signal, AbortSignal.timeout(CLOSE_MS)]);
      const abort = (): void => void socket.destroy(new Error('the receiver did not take the records in time'));
      timely.addEventListener('abort', abort, { once: true });
      try {
        await send(socket, records.map((record) => frame(message(record))).join(''));
      } catch (cause) {
        session = undefined;
        signal.throwIfAborted();
        throw new DeliveryError((cause as Error).message, { retryable: true, cause });
      } finally {
        timely.removeEventListener('abort', abort);
        socket.destroy();
      }
    },
    close: () => undefined,
  };
};
