// Which operation of the table an RPC is. The names differ only where a service's own name is part of the meaning.
import { OPERATION_NAMES, type OperationName } from '../../proto/documents/operations.ts';

const PREFIX = '/mortise.agent.v1.';

const RPCS: Readonly<Record<string, OperationName>> = {
  ListRecords: 'list-audit-records',
  TailRecords: 'tail-audit-records',
  GetCheckpoint: 'get-audit-checkpoint',
  VerifyLog: 'verify-audit-log',
  // A stream is the same operation, to policy, grants and audit.
  EncryptStream: 'encrypt',
  DecryptStream: 'decrypt',
  SignStream: 'sign',
  VerifyStream: 'verify',
  VerifyWithStream: 'verify-with',
  ReEncryptStream: 're-encrypt',
  ReSignStream: 're-sign',
};

/** The KMS plugin of Kubernetes, whose package is its own. */
const KMS: Readonly<Record<string, OperationName>> = {
  '/v2.KeyManagementService/Status': 'get-status',
  '/v2.KeyManagementService/Encrypt': 'encrypt',
  '/v2.KeyManagementService/Decrypt': 'decrypt',
};

const BY_KEBAB: ReadonlyMap<string, OperationName> = new Map(OPERATION_NAMES.map((name) => [name, name]));
const kebab = (rpc: string): string => rpc.replaceAll(/(?<!^)([A-Z])/g, '-$1').toLowerCase();

/** Undefined for the services that are not ours (health, reflection). */
export const operationOf = (path: string): OperationName | undefined => {
  if (!path.startsWith(PREFIX)) return KMS[path];
  const rpc = path.slice(path.lastIndexOf('/') + 1);
  return RPCS[rpc] ?? BY_KEBAB.get(kebab(rpc));
};
