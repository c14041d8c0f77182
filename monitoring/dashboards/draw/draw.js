// Draws each dashboard from a real Prometheus in headless Chromium, and refuses a panel that shows nothing.
//
//   node draw.js <page.js> <dashboards> <prometheus> <ranges.json> <pictures> [<name>...]
//
// ranges.json: { "scrapeInterval": "2s", "default": { "start", "end" }, "<dashboard>": { "start", "end" } }, in seconds since 1970.
import { readFile, readdir, mkdir } from "node:fs/promises";
import { createServer } from "node:http";
import path from "node:path";
import puppeteer from "puppeteer-core";
import { blankPanels, readPanels, recordCanvasText } from "./panels.js";

const WIDTH = 1500;
const SETTLED_MS = 60_000;
const CHROMIUM = process.env.CHROMIUM ?? "/usr/bin/chromium";

/// Serves the page on a port of this machine.
async function serve(bundle) {
  const html = '<!doctype html><meta charset="utf-8"><body style="margin:0"><div id="root"></div><script src="/page.js"></script>';
  const server = createServer((request, response) => {
    const script = request.url === "/page.js";
    response.writeHead(200, { "content-type": script ? "text/javascript" : "text/html" });
    response.end(script ? bundle : html);
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  return server;
}

/// Height of the whole dashboard, so that each panel is in view and hence queried.
function height(dashboard) {
  const rows = dashboard.spec.layouts.map(({ spec }) => Math.max(...spec.items.map((item) => item.y + item.height)));
  return 150 + rows.reduce((sum, units) => sum + 70 + units * 38, 0);
}

/// Draws one dashboard and returns its faults, each with the panel's name.
async function draw(browser, address, name, dashboard, prometheus, range, picture) {
  const page = await browser.newPage();
  page.setDefaultTimeout(SETTLED_MS);
  const faults = [];
  page.on("pageerror", (error) => faults.push(`${name}: page: ${error.message}`));
  page.on("console", (message) => message.type() === "error" && faults.push(`${name}: console: ${message.text()}`));
  await page.setViewport({ width: WIDTH, height: height(dashboard), deviceScaleFactor: 1 });
  await page.evaluateOnNewDocument(recordCanvasText);
  await page.goto(address);
  await page.evaluate((...all) => window.show(...all), dashboard, prometheus, range);
  const expected = Object.values(dashboard.spec.panels).map((panel) => panel.spec.display.name);
  let panels = [];
  const deadline = Date.now() + SETTLED_MS;
  do {
    await page.waitForNetworkIdle({ idleTime: 500, timeout: SETTLED_MS });
    panels = await page.evaluate(readPanels);
  } while (Date.now() < deadline && faults.length === 0 && (panels.length < expected.length || panels.some((panel) => panel.loading || panel.fault)));
  for (const title of expected) {
    const panel = panels.find((each) => each.title === title);
    const fault = panel ? panel.fault : "not drawn";
    if (fault) faults.push(`${name}: panel \`${title}\`: ${fault}`);
  }
  const clip = await page.evaluate(() => ({ x: 0, y: 0, width: window.innerWidth, height: document.getElementById("root").offsetHeight }));
  // The viewport has the page's height: a screenshot that resizes it would be taken while the grid is laid out anew.
  const taken = await page.screenshot({ path: picture, clip, captureBeyondViewport: false, encoding: "binary" });
  const blank = await page.evaluate(blankPanels, Buffer.from(taken).toString("base64"));
  faults.push(...blank.map((title) => `${name}: panel \`${title}\`: blank in the picture`));
  await page.close();
  return faults;
}

async function main([bundlePath, folder, prometheus, rangesPath, pictures, ...only]) {
  const server = await serve(await readFile(bundlePath));
  const browser = await puppeteer.launch({ executablePath: CHROMIUM, args: ["--no-sandbox", "--force-color-profile=srgb", "--hide-scrollbars"] });
  const ranges = JSON.parse(await readFile(rangesPath, "utf8"));
  const faults = [];
  let count = 0;
  await mkdir(pictures, { recursive: true });
  try {
    for (const file of (await readdir(folder)).sort()) {
      const name = path.basename(file, ".json");
      if (only.length > 0 && !only.includes(name)) continue;
      const dashboard = JSON.parse(await readFile(path.join(folder, file), "utf8"));
      const range = { scrapeInterval: ranges.scrapeInterval, ...(ranges[name] ?? ranges.default) };
      const address = `http://127.0.0.1:${server.address().port}/`;
      faults.push(...(await draw(browser, address, name, dashboard, prometheus, range, path.join(pictures, `${name}.png`))));
      count += Object.keys(dashboard.spec.panels).length;
    }
  } finally {
    await browser.close();
    server.close();
  }
  for (const fault of faults) console.error(fault);
  console.log(`${count} panels drawn, ${faults.length} faults`);
  process.exitCode = faults.length > 0 ? 1 : 0;
}

await main(process.argv.slice(2));
