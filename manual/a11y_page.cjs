/* One page in one window: how it is opened, and what is wrong with it as it stands. */
const path = require("node:path");
const { pathToFileURL } = require("node:url");
const axe = require("axe-core");

const SEVERE = ["serious", "critical"];

/* The page, loaded in a scheme of colours that no earlier page has chosen; `say` hears of every error and request. */
async function open(browser, { kind, file }, { width, scheme }, say) {
  const context = await browser.createBrowserContext();
  const page = await context.newPage();
  page.on("console", (said) => said.type() === "error" && say(`console: ${said.text()}`));
  page.on("pageerror", (error) => say(error.message));
  page.on("request", (asked) => /^(file|data|blob|about):/.test(asked.url()) || say(`asks for ${asked.url()}`));
  await page.setViewport({ width, height: width > 600 ? 1600 : 800 });
  await page.emulateMediaFeatures([{ name: "prefers-color-scheme", value: scheme }]);
  await page.goto(pathToFileURL(path.resolve(file)).href, { waitUntil: "load" });
  const dark = await page.evaluate(isDark, kind === "site");
  if (dark !== (scheme === "dark")) say(`is shown ${dark ? "dark" : "light"}`);
  return page;
}

/* In the page. Material names its scheme; else the paper is darker than the ink. */
function isDark(named) {
  if (named) return document.body.dataset.mdColorScheme === "slate";
  const light = (colour) => colour.match(/[\d.]+/g).slice(0, 3).reduce((sum, part) => sum + Number(part), 0);
  const { backgroundColor, color } = getComputedStyle(document.body);
  return light(backgroundColor) < light(color);
}

/* What axe-core finds; what is less than serious is only told. */
async function examine(page, place, say) {
  await page.evaluate(axe.source);
  const found = await page.evaluate(() => axe.run(document, { resultTypes: ["violations"], preload: false }));
  for (const { id, impact, help, nodes } of found.violations) {
    const line = `${impact}: ${id}: ${help} (${nodes.length}, first ${nodes[0].target})`;
    if (SEVERE.includes(impact)) say(line);
    else console.log(`${place}: ${line}`);
  }
}

async function fits(page, say) {
  const over = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
  if (over > 0) say(`${over} pixels wider than its window`);
}

async function finish(page) {
  await page.browserContext().close();
}

module.exports = { examine, finish, fits, open };
