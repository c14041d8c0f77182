// Reads a JSON array of PromQL expressions, and writes the syntax tree of each as [name, from, to, children]. The grammar
// is that of Prometheus 3. A node named "⚠" is a syntax error.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const modules = createRequire(process.argv[2] + "/");
const { parser } = await import(pathToFileURL(modules.resolve("@prometheus-io/lezer-promql")));

function tree(node) {
  const children = [];
  for (let child = node.firstChild; child; child = child.nextSibling) children.push(tree(child));
  return [node.name, node.from, node.to, children];
}

const expressions = JSON.parse(readFileSync(0, "utf8"));
process.stdout.write(JSON.stringify(expressions.map((text) => tree(parser.parse(text).topNode))));
