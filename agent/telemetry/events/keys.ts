// Keys: changes of records, KEKs and token objects, and what is found wrong with them.

import type { Level } from '../logger.ts';
import type { Telemetry } from '../telemetry.ts';

interface KeyName {
  readonly tenant: string;
  readonly keyId: string;
}

const changeEvents = ({ logger, metrics }: Telemetry) => {
  const changed = (change: string, message: string, fields: object): void => {
    metrics.count('keyChanges', { change });
    logger.log('info', message, fields);
  };
  return {
    created: ({ tenant, keyId, algorithm, custody }: KeyName & { algorithm: string; custody: string }): void =>
      changed('created', 'key created', { tenant, key: keyId, reason: `${algorithm}, custody ${custody}` }),

    rotated: (event: KeyName & { version: number; algorithm: string; custody: string }): void => {
      const { tenant, keyId, version, algorithm, custody } = event;
      changed('rotated', 'key rotated', { tenant, key: keyId, version, reason: `${algorithm}, custody ${custody}` });
    },

    stateChanged: ({ tenant, keyId, from, to }: KeyName & { from: string; to: string }): void =>
      changed('state', 'key changed state', { tenant, key: keyId, previous: from, state: to }),

    destroyed: ({ tenant, keyId, objects }: KeyName & { objects: number }): void =>
      changed('destroyed', 'key material destroyed', { tenant, key: keyId, count: objects }),

    kekCreated: ({ tenant, version }: { tenant: string; version: number }): void =>
      changed('kek-created', 'tenant KEK created', { tenant, version }),

    kekRotated: ({ tenant, version, rewrapped }: { tenant: string; version: number; rewrapped: number }): void =>
      changed('kek-rotated', 'tenant KEK rotated', { tenant, version, count: rewrapped }),

    kekDestroyed: ({ tenant, version }: { tenant: string; version: number }): void =>
      changed('kek-destroyed', 'old tenant KEK destroyed', { tenant, version }),

    replicated: ({ tenant, changes, position }: { tenant: string; changes: number; position: number }): void => {
      metrics.count('keyReplications', {}, changes);
      logger.log('debug', 'changes of other hosts are in force', { tenant, count: changes, index: position });
    },

    shared: ({ tenant, keyId }: KeyName): void =>
      changed('shared', 'key of this host is one of all hosts now', { tenant, key: keyId }),

    dataKeyLookedUp: ({ use, found }: { use: 'encrypt' | 'decrypt'; found: boolean }): void =>
      metrics.count('dataKeys', { use, result: found ? 'hit' : 'miss' }),

    unwrappedKeyLookedUp: ({ found }: { found: boolean }): void =>
      metrics.count('unwrappedKeys', { result: found ? 'hit' : 'miss' }),

    orphanDestroyed: ({ tenant, keyId }: KeyName & { tokenId: string }): void =>
      changed('orphan-destroyed', 'token object that no record names destroyed', { tenant, key: keyId }),
  };
};

const faultEvents = ({ logger, metrics, throttle }: Telemetry) => {
  const fault = (kind: string, level: Level, message: string, fields: object): void => {
    metrics.count('keyFaults', { fault: kind });
    const suppressed = throttle.admit(`key fault ${kind}`);
    if (suppressed !== undefined) logger.log(level, message, { ...fields, suppressed });
  };
  return {
    unshared: ({ tenant, keyId, cause }: KeyName & { cause: unknown }): void =>
      fault('unshared', 'warn', 'the registry does not have this key: it can be used here, and not changed', {
        tenant,
        key: keyId,
        error: cause,
      }),

    storeFailed: ({ cause }: { cause: unknown }): void => {
      metrics.count('storeFailures', { part: 'keys' });
      const suppressed = throttle.admit('keys store');
      if (suppressed !== undefined) logger.log('error', 'key store cannot be written', { suppressed, error: cause });
    },

    storeBegunAnew: ({ label }: { label: string }): void =>
      fault('store', 'error', 'key store is empty although this host had one: was its folder emptied or replaced?', {
        reason: `the token has ${label} already`,
      }),

    corruptRecord: ({ tenant, keyId, problem }: KeyName & { problem: string }): void =>
      fault('record', 'error', 'key record is damaged; the key cannot be used', {
        tenant,
        key: keyId,
        reason: problem,
      }),

    corruptKeks: ({ tenant }: { tenant: string }): void =>
      fault('keks', 'error', 'list of tenant KEKs is damaged; wrapped keys cannot be used', { tenant }),

    blobRefused: ({ tenant, keyId, version, cause }: KeyName & { version: number; cause: unknown }): void =>
      fault('blob', 'error', 'wrapped key does not open', { tenant, key: keyId, version, error: cause }),

    kekKept: ({ tenant, version }: { tenant: string; version: number }): void =>
      fault('kek-kept', 'warn', 'old tenant KEK is kept: a damaged record may need it', { tenant, version }),

    orphanKept: ({ tenant, keyId, cause }: KeyName & { tokenId: string; cause: unknown }): void =>
      fault('orphan', 'warn', 'token object that no record names could not be destroyed; it is tried again', {
        tenant,
        key: keyId,
        error: cause,
      }),

    kekDestructionDelayed: ({ tenant, version, cause }: { tenant: string; version: number; cause: unknown }): void =>
      fault('destruction', 'warn', 'old tenant KEK could not be destroyed; it is tried again', {
        tenant,
        version,
        error: cause,
      }),

    destructionDelayed: ({ tenant, keyId, cause }: KeyName & { cause: unknown }): void =>
      fault('destruction', 'warn', 'key material could not be destroyed; it is tried again', {
        tenant,
        key: keyId,
        error: cause,
      }),
  };
};

export const keysEvents = (telemetry: Telemetry) => ({ ...changeEvents(telemetry), ...faultEvents(telemetry) });
