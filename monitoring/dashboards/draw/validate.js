// Validates generated dashboards with the schemas of Perses' own package: node validate.js <folder>
import { readFile, readdir } from "node:fs/promises";
import path from "node:path";
import core from "@perses-dev/core";

/// Yields the parts of a dashboard for which Perses has a schema.
function* parts({ metadata, spec }) {
  yield ["metadata", core.projectMetadataSchema, metadata];
  yield ["duration", core.durationValidationSchema, spec.duration];
  for (const variable of spec.variables) yield [`variable ${variable.spec.name}`, core.variableDefinitionSchema, variable];
  for (const [name, panel] of Object.entries(spec.panels)) yield [`panel ${name}`, core.panelDefinitionSchema, panel];
}

const folder = process.argv[2];
let faults = 0;
let checked = 0;
for (const file of (await readdir(folder)).sort()) {
  for (const [name, schema, value] of parts(JSON.parse(await readFile(path.join(folder, file), "utf8")))) {
    const { success, error } = schema.safeParse(value);
    checked += 1;
    if (!success) {
      faults += 1;
      console.error(`${file}: ${name}: ${error.issues.map((issue) => `${issue.path.join(".")}: ${issue.message}`).join("; ")}`);
    }
  }
}
console.log(`${checked} parts validated with Perses' schemas, ${faults} faults`);
process.exitCode = faults > 0 ? 1 : 0;
