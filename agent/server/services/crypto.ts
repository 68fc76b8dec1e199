// CryptoService: proto ↔ plain values, nothing else. What a value may be is checked in the use cases.
import type {
  DecryptDataKeyRequest,
  DecryptDataKeyResponse,
  DecryptRequest,
  DecryptResponse,
  EncryptGeneralRequest,
  EncryptGeneralResponse,
  EncryptRequest,
  EncryptResponse,
  EncryptToRequest,
  EncryptToResponse,
  GenerateDataKeyRequest,
  GenerateDataKeyResponse,
  GenerateRandomRequest,
  GenerateRandomResponse,
  MacRequest,
  MacResponse,
  Recipient,
  ReEncryptRequest,
  ReEncryptResponse,
  ReSignRequest,
  ReSignResponse,
  RewrapRequest,
  RewrapResponse,
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
import { decryptDataKey } from '../../operations/decrypt-data-key.ts';
import { encrypt } from '../../operations/encrypt.ts';
import { encryptGeneral } from '../../operations/encrypt-general.ts';
import { encryptTo } from '../../operations/encrypt-to.ts';
import { generateDataKey } from '../../operations/generate-data-key.ts';
import { generateRandom } from '../../operations/generate-random.ts';
import type { RecipientInput } from '../../operations/jose/targets.ts';
import { mac } from '../../operations/mac.ts';
import type { Performed, Ports } from '../../operations/perform.ts';
import type { Envelope } from '../../operations/ports/answer.ts';
import type { Call } from '../../operations/ports/call.ts';
import { reEncrypt } from '../../operations/re-encrypt.ts';
import { reSign } from '../../operations/re-sign.ts';
import { rewrap } from '../../operations/rewrap.ts';
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

/** Empty and absent are the same to the algorithms. */
const contextOf = (context: Buffer) => (context.length === 0 ? {} : { context });

const signedOf = ({ signature, input, context }: Pick<VerifyRequest, 'signature' | 'input' | 'context'>) => ({
  signature:
    signature === undefined
      ? undefined
      : signature.$case === 'jws'
        ? { jws: signature.value }
        : { raw: signature.value },
  input: dataOf(input),
  ...contextOf(context),
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
  sign: async (call: Call, { key, input, form, type, context }: SignRequest): Promise<SignResponse> => {
    const plain = { key, input: dataOf(input), form: FORMS.get(form), type, ...contextOf(context) };
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

const recipientsOf = (recipients: readonly Recipient[]): readonly RecipientInput[] =>
  recipients.map(({ recipient }) =>
    recipient === undefined
      ? undefined
      : recipient.$case === 'key'
        ? { key: recipient.value }
        : { publicJwk: recipient.value },
  );

const moveHandlers = (ports: Ports) => ({
  encryptGeneral: async (call: Call, request: EncryptGeneralRequest): Promise<EncryptGeneralResponse> => {
    const { recipients, plaintext, associatedData } = request;
    const plain = { recipients: recipientsOf(recipients), plaintext, associatedData };
    const { value, envelope } = await encryptGeneral(ports, call, plain);
    return { jwe: value.jwe, keysUsed: [...value.keysUsed], envelope: toProtoEnvelope(envelope) };
  },
  reEncrypt: async (call: Call, request: ReEncryptRequest): Promise<ReEncryptResponse> => {
    const { jwe, sourceKey, targetKey, associatedData, newAssociatedData } = request;
    const plain = { jwe, sourceKey, targetKey, associatedData, newAssociatedData };
    const { value, envelope } = await reEncrypt(ports, call, plain);
    return { ...value, envelope: toProtoEnvelope(envelope) };
  },
  rewrap: async (call: Call, { jwe, sourceKey, add, remove }: RewrapRequest): Promise<RewrapResponse> => {
    const { value, envelope } = await rewrap(ports, call, { jwe, sourceKey, add: recipientsOf(add), remove });
    return { ...value, keysUsed: [...value.keysUsed], envelope: toProtoEnvelope(envelope) };
  },
  reSign: async (call: Call, { jws, message, sourceKey, targetKey }: ReSignRequest): Promise<ReSignResponse> => {
    const { value, envelope } = await reSign(ports, call, { jws, message, sourceKey, targetKey });
    return { ...value, envelope: toProtoEnvelope(envelope) };
  },
});

const dataKeyHandlers = (ports: Ports) => ({
  generateDataKey: async (call: Call, request: GenerateDataKeyRequest): Promise<GenerateDataKeyResponse> => {
    const { key, length, wrappedOnly, associatedData } = request;
    const { value, envelope } = await generateDataKey(ports, call, { key, length, wrappedOnly, associatedData });
    return { ...value, envelope: toProtoEnvelope(envelope) };
  },
  decryptDataKey: async (call: Call, request: DecryptDataKeyRequest): Promise<DecryptDataKeyResponse> => {
    const { wrappedDataKey, key, associatedData } = request;
    const { value, envelope } = await decryptDataKey(ports, call, { wrappedDataKey, key, associatedData });
    return { dataKey: value.dataKey, envelope: toProtoEnvelope(envelope) };
  },
});

export const cryptoHandlers = (ports: Ports) => ({
  ...encryptHandlers(ports),
  ...moveHandlers(ports),
  ...dataKeyHandlers(ports),
  ...signHandlers(ports),
  ...macHandlers(ports),
});
