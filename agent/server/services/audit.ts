// AuditService: proto types to plain values and back.
import type { AuditRecord, AuditServiceService } from '../../../proto/gen/mortise/agent/v1/audit.ts';
import { getAuditCheckpoint } from '../../operations/get-audit-checkpoint.ts';
import { getReceipt } from '../../operations/get-receipt.ts';
import { type AuditReadPorts, listAuditRecords } from '../../operations/list-audit-records.ts';
import type { AuditRecordView } from '../../operations/ports/audit-log.ts';
import { tailAuditRecords } from '../../operations/tail-audit-records.ts';
import { verifyAuditLog } from '../../operations/verify-audit-log.ts';
import type { Handlers } from '../rpc.ts';

const recordOf = ({ index, canonical, mac, ...record }: AuditRecordView): AuditRecord => ({
  ...record,
  index: BigInt(index),
  canonical: Buffer.from(canonical),
  mac: Buffer.from(mac),
});

export const auditHandlers = (ports: AuditReadPorts): Handlers<typeof AuditServiceService> => ({
  listRecords: async (call, { from, pageSize, newest }) => {
    const { records, size } = (await listAuditRecords(ports, call, { from: Number(from), pageSize, newest })).value;
    return { records: records.map(recordOf), size: BigInt(size) };
  },

  tailRecords: async function* (call, { from }) {
    const { value: pages } = await tailAuditRecords(ports, call, { from: Number(from) });
    for await (const records of pages) yield { records: records.map(recordOf) };
  },

  getCheckpoint: async (call) => (await getAuditCheckpoint(ports, call)).value,

  getReceipt: async (call, request) => {
    const { record, mac, ...receipt } = (await getReceipt(ports, call, request)).value;
    return { ...receipt, record: Buffer.from(record), mac: Buffer.from(mac) };
  },

  verifyLog: async (call, request) => {
    const { size, findings, checkpointTime, ...result } = (await verifyAuditLog(ports, call, request)).value;
    return {
      ...result,
      size: BigInt(size),
      findings: findings.map((finding) => ({ ...finding, index: BigInt(finding.index) })),
      checkpointTime: checkpointTime === undefined ? undefined : new Date(checkpointTime),
    };
  },
});
