// Encrypts a file of any size in constant memory. usage: encrypt-file.ts KEY SOURCE TARGET
import { createReadStream, createWriteStream } from 'node:fs';
import { rename } from 'node:fs/promises';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { connect } from '../index.ts'; // '@mortise/client' outside of this repository

const [key = '', source = '', target = ''] = process.argv.slice(2);
using client = connect();
const encrypted = client.streams.encrypt(key, createReadStream(source));
await pipeline(Readable.from(encrypted), createWriteStream(`${target}.part`));
// Only a stream that ended by itself is whole; one that threw has left nothing under the target's name.
await rename(`${target}.part`, target);
