// Bundles the page into target/dashboards/page.js.
import { build } from "esbuild";
import { fileURLToPath } from "node:url";

await build({
  entryPoints: [fileURLToPath(new URL("page.jsx", import.meta.url))],
  bundle: true,
  outfile: process.argv[2],
  format: "iife",
  jsx: "automatic",
  // Named, so that packages which are imported and required are bundled once: their contexts would differ.
  mainFields: ["browser", "module", "main"],
  target: "chrome120",
  minify: true,
  loader: { ".json": "json", ".css": "empty" },
  define: { "process.env.NODE_ENV": '"production"', global: "window" },
  logLevel: "warning",
});
