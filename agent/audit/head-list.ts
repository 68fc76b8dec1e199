// The list of tenants' heads inside the head of the host, kept as the bytes that are MACed: a commit changes the tags of
// the tenants it touches, whatever the number of the others.

export const HEAD_TAG_BYTES = 16; // 128 bits of a MAC name one head among any number that could be put in its place

export class HeadList {
  #bytes: Buffer = Buffer.alloc(0);
  readonly #offsets = new Map<string, number>();

  constructor(heads: ReadonlyMap<string, Buffer> = new Map()) {
    for (const [tenant, tag] of heads) this.set(tenant, tag);
  }

  get bytes(): Buffer {
    return this.#bytes;
  }

  set(tenant: string, tag: Buffer): void {
    const offset = this.#offsets.get(tenant);
    if (offset !== undefined) {
      tag.copy(this.#bytes, offset);
      return;
    }
    const name = Buffer.from(`${tenant}\0`, 'latin1');
    this.#offsets.set(tenant, this.#bytes.length + name.length);
    this.#bytes = Buffer.concat([this.#bytes, name, tag]);
  }

  /** Answers the function that takes the list back to what it is now. */
  save(): () => void {
    const bytes = Buffer.from(this.#bytes);
    const known = this.#offsets.size;
    return () => {
      this.#bytes = bytes;
      for (const tenant of [...this.#offsets.keys()].slice(known)) this.#offsets.delete(tenant);
    };
  }
}
