// CryptoService: proto ↔ plain values, nothing else. What a value may be is checked in the use cases.
import type {
  DecryptRequest,
  DecryptResponse,
  EncryptRequest,
  EncryptResponse,
  EncryptToRequest,
  EncryptToResponse,
  GenerateRandomRequest,
  GenerateRandomResponse,
  MacRequest,
  MacResponse,
  SignRequest,
  SignResponse,
  VerifyMacRequest,
  VerifyMacResponse,
  VerifyRequest,
  VerifyResponse,
  VerifyWithRequest,
  VerifyWithResponse,
} from '../../../proto/gen/mortise/agent/v1/crypto.ts';
import { SignatureForm } from '../../../proto/gen/mortise/agent/v1/crypto.ts';
import type { Envelope as ProtoEnvelope } from '../../../proto/gen/mortise/agent/v1/types.ts';
import { decrypt } from '../../operations/decrypt.ts';
import { encrypt } from '../../operations/encrypt.ts';
import { encryptTo } from '../../operations/encrypt-to.ts';
import { generateRandom } from '../../operations/generate-random.ts';
import { mac } from '../../operations/mac.ts';
import type { Performed, Ports } from '../../operations/perform.ts';
import type { Call, Envelope } from '../../operations/ports.ts';
import { type SignatureForm as PlainForm, sign } from '../../operations/sign.ts';
import { type VerifyOutput, verify } from '../../operations/verify.ts';
import { verifyMac } from '../../operations/verify-mac.ts';
import { verifyWith } from '../../operations/verify-with.ts';

const toProtoEnvelope = ({ warnings, ...envelope }: Envelope): ProtoEnvelope => ({
  ...envelope,
  warnings: [...warnings],
});

const FORMS: ReadonlyMap<SignatureForm, PlainForm> = new Map([
  [SignatureForm.UNSPECIFIED, 'compact'],
  [SignatureForm.JWS_COMPACT, 'compact'],
  [SignatureForm.JWS_DETACHED, 'detached'],
  [SignatureForm.JWS_UNENCODED, 'unencoded'],
  [SignatureForm.RAW, 'raw'],
]);

const dataOf = (input: SignRequest['input']) =>
  input === undefined ? undefined : input.$case === 'message' ? { message: input.value } : { digest: input.value };

const signedOf = ({ signature, input }: Pick<VerifyRequest, 'signature' | 'input'>) => ({
  signature:
    signature === undefined
      ? undefined
      : signature.$case === 'jws'
        ? { jws: signature.value }
        : { raw: signature.value },
  input: dataOf(input),
});

const verifyResponse = ({ value, envelope }: Performed<VerifyOutput>): VerifyResponse => ({
  valid: value.valid,
  payload: value.payload ?? Buffer.alloc(0),
  envelope: toProtoEnvelope(envelope),
});

const encryptHandlers = (ports: Ports) => ({
  encrypt: async (call: Call, { key, plaintext, associatedData }: EncryptRequest): Promise<EncryptResponse> => {
    const { value, envelope } = await encrypt(ports, call, { key, plaintext, associatedData });
    return { jwe: value.jwe, envelope: toProtoEnvelope(envelope) };
  },
  decrypt: async (call: Call, { jwe, key, associatedData }: DecryptRequest): Promise<DecryptResponse> => {
    const { value, envelope } = await decrypt(ports, call, { jwe, key, associatedData });
    return { plaintext: value.plaintext, envelope: toProtoEnvelope(envelope) };
  },
  encryptTo: async (
    call: Call,
    { publicJwk, plaintext, associatedData }: EncryptToRequest,
  ): Promise<EncryptToResponse> => {
    const { value, envelope } = await encryptTo(ports, call, { publicJwk, plaintext, associatedData });
    return { jwe: value.jwe, envelope: toProtoEnvelope(envelope) };
  },
});

const signHandlers = (ports: Ports) => ({
  sign: async (call: Call, { key, input, form, type }: SignRequest): Promise<SignResponse> => {
    const plain = { key, input: dataOf(input), form: FORMS.get(form), type };
    const { value, envelope } = await sign(ports, call, plain);
    const none = { jws: '', signature: Buffer.alloc(0) };
    return { ...none, ...value, envelope: toProtoEnvelope(envelope) };
  },
  verify: async (call: Call, request: VerifyRequest): Promise<VerifyResponse> => {
    const { key, version } = request;
    return verifyResponse(await verify(ports, call, { key, version, ...signedOf(request) }));
  },
  verifyWith: async (call: Call, request: VerifyWithRequest): Promise<VerifyWithResponse> => {
    const { publicJwk } = request;
    return verifyResponse(await verifyWith(ports, call, { publicJwk, ...signedOf(request) }));
  },
});

const macHandlers = (ports: Ports) => ({
  mac: async (call: Call, { key, message }: MacRequest): Promise<MacResponse> => {
    const { value, envelope } = await mac(ports, call, { key, message });
    return { mac: value.mac, envelope: toProtoEnvelope(envelope) };
  },
  verifyMac: async (call: Call, request: VerifyMacRequest): Promise<VerifyMacResponse> => {
    const { key, message, mac: given, version } = request;
    const { value, envelope } = await verifyMac(ports, call, { key, message, mac: given, version });
    return { valid: value.valid, envelope: toProtoEnvelope(envelope) };
  },
  generateRandom: async (call: Call, { length }: GenerateRandomRequest): Promise<GenerateRandomResponse> => {
    const { value } = await generateRandom(ports, call, { length });
    return { random: value.random };
  },
});

export const cryptoHandlers = (ports: Ports) => ({
  ...encryptHandlers(ports),
  ...signHandlers(ports),
  ...macHandlers(ports),
});
