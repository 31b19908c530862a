/* node a11y.cjs SITE OUT: what a browser makes of four pages, from the file system, wide and narrow, light and dark.
 *
 * Fails where axe-core has a finding that is serious or critical, where the console has an error, where anything but a
 * file is asked for, where a page is wider than its window, and where search finds nothing. Pictures lie in OUT.
 */
const fs = require("node:fs");
const path = require("node:path");
const { pathToFileURL } = require("node:url");
const axe = require("axe-core");
const puppeteer = require("puppeteer-core");

const PAGES = ["index.html", "howto-audits.html", "reference/parts/attacks.html", "results.html"];
const BROWSERS = [process.env.CHROMIUM, "/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"];
const FLAGS = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"];

const [site, out] = process.argv.slice(2);
const faults = [];

async function open(browser, name, width, scheme) {
  const context = await browser.createBrowserContext(); // without the scheme that an earlier page has stored
  const page = await context.newPage();
  const place = `${name} ${width} ${scheme}`;
  page.on("console", (said) => said.type() === "error" && faults.push(`${place}: console: ${said.text()}`));
  page.on("pageerror", (error) => faults.push(`${place}: ${error.message}`));
  page.on("request", (asked) => {
    if (!/^(file|data|blob|about):/.test(asked.url())) faults.push(`${place}: asks for ${asked.url()}`);
  });
  await page.setViewport({ width, height: width > 600 ? 1600 : 800 });
  await page.emulateMediaFeatures([{ name: "prefers-color-scheme", value: scheme }]);
  await page.goto(pathToFileURL(path.resolve(site, name)).href, { waitUntil: "load" });
  const shown = await page.evaluate(() => document.body.dataset.mdColorScheme);
  if ((shown === "slate") !== (scheme === "dark")) faults.push(`${place}: is shown in the scheme ${shown}`);
  return { page, place };
}

async function examine(browser, name, width, scheme) {
  const { page, place } = await open(browser, name, width, scheme);
  await page.evaluate(axe.source);
  const found = await page.evaluate(() => axe.run(document, { resultTypes: ["violations"], preload: false }));
  for (const { id, impact, help, nodes } of found.violations) {
    const line = `${place}: ${impact}: ${id}: ${help} (${nodes.length}, first ${nodes[0].target})`;
    if (["serious", "critical"].includes(impact)) faults.push(line);
    else console.log(line);
  }
  const over = await page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth);
  if (over > 0) faults.push(`${place}: ${over} pixels wider than its window`);
  await page.screenshot({ path: path.join(out, `${name.replaceAll("/", "-")}-${width}-${scheme}.png`) });
  await page.browserContext().close();
}

async function search(browser) {
  const { page, place } = await open(browser, "index.html", 1280, "light");
  await page.click("[data-md-component=search-query]");
  await page.type("[data-md-component=search-query]", "straight through");
  await page
    .waitForSelector(".md-search-result__item a", { timeout: 10000 })
    .catch(() => faults.push(`${place}: search finds nothing`));
  await page.screenshot({ path: path.join(out, "search.png") });
  await page.browserContext().close();
}

(async () => {
  const executablePath = BROWSERS.find((each) => each && fs.existsSync(each));
  const browser = await puppeteer.launch({ executablePath, args: FLAGS });
  try {
    for (const name of PAGES)
      for (const width of [1280, 360]) for (const scheme of ["light", "dark"]) await examine(browser, name, width, scheme);
    await search(browser);
  } finally {
    await browser.close();
  }
  console.log(faults.join("\n") || `${PAGES.length} pages, no serious finding, no error, nothing asked of a network`);
  process.exitCode = faults.length ? 1 : 0;
})();
