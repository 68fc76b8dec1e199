// Sends so many MiB through encrypt and decrypt at once, piece by piece, and says how far its own memory went:
// argv is socket, MiB, and who works on the chunks; the token comes in the environment.
import { connect, type LocalChunks } from '../../clients/typescript/index.ts';

const [socketPath = '', mebibytes = '0', local = 'auto'] = process.argv.slice(2);
const total = Number(mebibytes) * 1024 * 1024;
using client = connect({ socketPath, token: process.env['TOKEN'] ?? '' });
const piece = Buffer.alloc(240 * 1024, 1);
const source = function* (): Generator<Buffer> {
  for (let sent = 0; sent < total; sent += piece.length) yield piece.subarray(0, Math.min(piece.length, total - sent));
};
let received = 0;
let highest = 0;
const options = { local: local as LocalChunks };
for await (const { length } of client.streams.decrypt(client.streams.encrypt('vault', source(), options), options)) {
  received += length;
  highest = Math.max(highest, process.memoryUsage.rss());
}
process.stdout.write(JSON.stringify({ received, highest }));
