// Why a log does not fit the ledger: an answer to its host, and an alarm.

export type RefusalCode =
  | 'LEDGER_GAP'
  | 'LEDGER_REWOUND'
  | 'LEDGER_FORKED'
  | 'LEDGER_EDITED'
  | 'LEDGER_UNSEALED'
  | 'CHECKPOINT_INVALID'
  | 'PERMISSION_DENIED';

export class LogRefusal extends Error {
  readonly code: RefusalCode;
  /** Position in the log. */
  readonly index: number;

  constructor(code: RefusalCode, index: number, message: string) {
    super(message);
    this.name = 'LogRefusal';
    this.code = code;
    this.index = index;
  }
}
