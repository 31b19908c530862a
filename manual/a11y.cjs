/* node a11y.cjs OUT KIND:PATH...: what a browser makes of our pages, from the file system, wide and narrow, light and dark.
 *
 * `site:FOLDER` is the documentation, of which four pages are looked at; `report:FILE` and `board:FILE` are pages of
 * their own, and used as a reader uses them. Fails where axe-core has a finding that is serious or critical, where the
 * console has an error, where anything but a file is asked for, where a page is wider than its window, and where what
 * a reader does has not the answer that it should have. Pictures lie in OUT.
 */
const fs = require("node:fs");
const path = require("node:path");
const puppeteer = require("puppeteer-core");
const { examine, finish, fits, open } = require("./a11y_page.cjs");
const use = require("./a11y_use.cjs");

const PAGES = ["index.html", "howto-audits.html", "reference/parts/attacks.html", "results.html"];
const BROWSERS = [process.env.CHROMIUM, "/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"];
const FLAGS = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"];
const WINDOWS = [1280, 360].flatMap((width) => ["light", "dark"].map((scheme) => ({ width, scheme })));

const [out, ...asked] = process.argv.slice(2);
const faults = [];

/* Every page to look at: its file, its kind and the name of its pictures. */
function pages() {
  return asked.flatMap((each) => {
    const [kind, file] = each.split(/:(.*)/s);
    if (!(kind in use)) throw new Error(`expected KIND:PATH with a kind of ${Object.keys(use)}, got ${each}`);
    if (kind !== "site") return [{ kind, file, name: path.basename(path.dirname(path.resolve(file))) }];
    return PAGES.map((page) => ({ kind, file: path.join(file, page), name: page.replaceAll("/", "-") }));
  });
}

async function look(browser, one, window) {
  const place = `${one.name} ${window.width} ${window.scheme}`;
  const say = (words) => faults.push(`${place}: ${words}`);
  const page = await open(browser, one, window, say);
  const picture = (of = "") => page.screenshot({ path: path.join(out, `${place.replaceAll(" ", "-")}${of}.png`) });
  await fits(page, say);
  await picture();
  if (one.kind === "site") await examine(page, place, say); // before its search lies over it
  await use[one.kind](page, one, window, say, picture);
  if (one.kind !== "site") await examine(page, place, say); // with what was folded; a large page takes a minute
  await fits(page, say);
  await picture("-used");
  await finish(page);
}

(async () => {
  const executablePath = BROWSERS.find((each) => each && fs.existsSync(each));
  const browser = await puppeteer.launch({ executablePath, args: FLAGS });
  const all = pages();
  fs.mkdirSync(out, { recursive: true });
  try {
    for (const one of all) for (const window of WINDOWS) await look(browser, one, window);
  } finally {
    await browser.close();
  }
  const found = [...new Set(faults)];
  console.log(found.join("\n") || `${all.length} pages, no serious finding, no error, nothing asked of a network`);
  process.exitCode = found.length ? 1 : 0;
})();
