// What LedgerService needs of the ledger's room, as plain interfaces that it fits by structure.

/** The answer to an opening or a batch. */
export type Answer =
  | { readonly kind: 'acknowledged'; readonly origin: string; readonly size: number; readonly checkpoint: string }
  | {
      readonly kind: 'refused';
      readonly origin: string;
      readonly code: string;
      readonly index: number;
      readonly size: number;
      readonly message: string;
    };

export interface IngestPort {
  /** A stream of one host. */
  session(host: string): {
    macKey(epoch: number, jwe: string): Promise<readonly Answer[]>;
    open(origin: string, publicJwk: string, size: number): Promise<Answer>;
    batch(batch: {
      readonly origin: string;
      readonly from: number;
      readonly records: readonly { readonly record: Buffer; readonly mac: Buffer }[];
      readonly checkpoints: readonly string[];
    }): Promise<Answer | undefined>;
  };
}

export type Reader = { readonly kind: 'host' | 'admin' | 'auditor'; readonly name: string };

export interface PlainFilter {
  /** RFC 3339 with microseconds, as in records: from, and before. */
  readonly fromTime?: string;
  readonly toTime?: string;
  readonly key?: string;
  readonly principal?: string;
  readonly operation?: string;
  readonly outcome?: string;
  readonly correlationId?: string;
  readonly host?: string;
}

/** Between two checkpoints, named by their sizes. */
export interface PlainPart {
  readonly origin: string;
  readonly fromSize: number;
  readonly toSize: number;
}

export interface PlainRecord {
  readonly index: number;
  readonly record: Buffer;
  readonly mac: Buffer;
  readonly ingestedAt: number;
}

export interface PlainLog {
  readonly origin: string;
  readonly size: number;
  readonly checkpoint: string;
  readonly publicJwk: string;
  readonly lastIngestAt?: number;
  readonly refusal: string;
}

/** What is read of the ledger. */
export interface LedgerPort {
  query(
    reader: Reader,
    tenant: string,
    query: { readonly filter: PlainFilter; readonly limit: number; readonly cursor?: string },
  ): Promise<{ readonly rows: readonly (PlainRecord & { readonly origin: string })[]; readonly next: string }>;
  read(
    reader: Reader,
    tenant: string,
    query: { readonly origin: string; readonly from: number; readonly limit: number },
  ): Promise<{ readonly rows: readonly (PlainRecord & { readonly origin: string })[]; readonly size: number }>;
  export(
    reader: Reader,
    tenant: string,
    filter: PlainFilter,
    format: 'json-lines' | 'csv' | 'bundle',
    part?: PlainPart,
  ): AsyncIterable<Buffer>;
  logs(
    reader: Reader,
    tenant: string,
    page: { readonly after?: string; readonly limit: number },
  ): Promise<readonly PlainLog[]>;
  verify(
    reader: Reader,
    tenant: string,
    options: { readonly host?: string; readonly trusted: readonly string[] },
  ): Promise<{
    readonly intact: boolean;
    readonly logs: number;
    readonly records: number;
    readonly findings: readonly { code: string; origin: string; index: number; message: string }[];
  }>;
  receipt(
    reader: Reader,
    tenant: string,
    eventId: string,
  ): Promise<{ readonly proof: string; readonly row: PlainRecord; readonly publicJwk: string }>;
}
