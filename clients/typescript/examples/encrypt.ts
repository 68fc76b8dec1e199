// Encrypts and decrypts one value. usage: encrypt.ts KEY TEXT
import { connect, MortiseError } from '../index.ts'; // '@mortise/client' outside of this repository

const [key = '', text = ''] = process.argv.slice(2);

// Without a token the agent goes by the uid of this process; in Kubernetes name the projected token file:
// connect({ token: new TokenFile('/var/run/secrets/mortise/token') })
using client = connect();
const { jwe, envelope } = await client.encrypt(key, Buffer.from(text), { associatedData: Buffer.from('order 17') });
console.log(envelope.algorithmUsed, envelope.keyUsed);
try {
  await client.decrypt(jwe, { associatedData: Buffer.from('order 18') });
} catch (error) {
  if (!(error instanceof MortiseError)) throw error;
  console.log(error.code, error.retryable ? 'retryable' : 'final');
}
console.log((await client.decrypt(jwe, { associatedData: Buffer.from('order 17') })).plaintext.toString());
