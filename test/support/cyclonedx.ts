// Judges a document by the JSON schema of CycloneDX 1.6 (test/vectors/cyclonedx, as published with its own references).
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Ajv, type ValidateFunction } from 'ajv';

const FOLDER = join(import.meta.dirname, '../vectors/cyclonedx');
const schema = (name: string): object => JSON.parse(readFileSync(join(FOLDER, `${name}.SNAPSHOT.schema.json`), 'utf8'));

const RFC_3339 = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d:\d\d)$/;

let compiled: ValidateFunction | undefined;

/** Compiled once, when it is first asked for: that takes longer than all that it judges. */
const validator = (): ValidateFunction => {
  if (compiled !== undefined) return compiled;
  const ajv = new Ajv({ strict: false, allErrors: true });
  // The schemas name each other by file and themselves by URL.
  for (const name of ['jsf-0.82', 'spdx']) {
    ajv.addSchema(schema(name), `http://cyclonedx.org/schema/${name}.SNAPSHOT.schema.json`);
  }
  ajv.addFormat('date-time', RFC_3339);
  for (const format of ['iri-reference', 'idn-email', 'uri']) ajv.addFormat(format, true);
  compiled = ajv.compile(schema('bom-1.6'));
  return compiled;
};

/** What the schema finds wrong; empty where the document is valid. */
export const cycloneDxFaults = (document: unknown): readonly string[] => {
  const validate = validator();
  if (validate(document)) return [];
  return (validate.errors ?? []).map(({ instancePath, message }) => `${instancePath} ${message}`);
};
