/* What a reader does on a page of each kind, and what the page should answer: `say` hears where it does not. */

/* Search finds, where the window has room for its field. */
async function site(page, { file }, { width }, say, picture) {
  if (!file.endsWith("index.html") || width < 600) return;
  await page.click("[data-md-component=search-query]");
  await page.type("[data-md-component=search-query]", "straight through");
  const found = page.waitForSelector(".md-search-result__item a", { timeout: 10000 });
  await found.catch(() => say("search finds nothing"));
  await picture("-search");
}

async function report(page, one, window, say, picture) {
  await tip(page, say, picture);
  await unfold(page, say);
  await sort(page, say);
  await filter(page, say);
  await link(page, "nav a", say);
}

async function board(page, one, window, say) {
  await link(page, "tbody th a", say); // opens the folds of all entries
  await page.reload({ waitUntil: "load" });
  await unfold(page, say);
}

/* A mark of the first figure tells its name and numbers while the pointer or the focus is on it, inside the window. */
async function tip(page, say, picture) {
  const mark = await page.$("svg [tabindex]");
  if (!mark) return say("no figure has a mark");
  const name = await mark.evaluate((it) => it.getAttribute("aria-label"));
  if (!/^.+: .*\d/.test(name)) say(`a mark says '${name}', which is no name with numbers`);
  const told = () => page.$eval("#told", (it) => (it.hidden ? null : it.textContent));
  const shows = async (how) => {
    if (!(await told())?.split("\n").includes(name)) say(`${how} of a mark: the tip says '${await told()}', expected '${name}'`);
    if (!(await page.$eval("#told", inside))) say(`${how} of a mark: the tip is cut by the window`);
  };
  await mark.hover();
  await shows("hover");
  await picture("-tip");
  await page.keyboard.press("Escape");
  if ((await told()) !== null) say("Escape leaves the tip of a mark");
  await mark.evaluate((it) => it.focus());
  await shows("focus");
  await mark.evaluate((it) => it.blur());
  if ((await told()) !== null) say("a mark without focus leaves its tip");
}

/* In the page. */
function inside(element) {
  const { left, right, top, bottom } = element.getBoundingClientRect();
  const { clientWidth, clientHeight } = document.documentElement;
  return left >= 0 && top >= 0 && right <= clientWidth && bottom <= clientHeight;
}

/* The first fold opens by the keyboard, then every other by a click: a fold inside one comes after it. */
async function unfold(page, say) {
  const first = await page.$("details:not([open]) > summary");
  if (!first) return say("no fold");
  await first.focus();
  await page.keyboard.press("Enter");
  await page.$$eval("details:not([open]) > summary", (all) => all.forEach((one) => one.click()));
  for (const shut of await page.$$("details:not([open]) > summary")) say(`a fold stays shut: ${await text(shut)}`);
}

/* Every column of numbers of the longest table, up and then down; what is no number comes last. */
async function sort(page, say) {
  const table = await longest(page);
  const heads = await table.$$("thead th.number");
  for (const head of heads) {
    for (const way of ["ascending", "descending"]) {
      await (await head.$("button")).evaluate((it) => it.click());
      const { said, values } = await head.evaluate(column);
      if (said !== way) say(`column '${await text(head)}': a click sorts it ${said}, expected ${way}`);
      const sorted = values.toSorted((a, b) => (way === "ascending" ? a - b : b - a));
      if (values.join() !== sorted.join()) say(`column '${await text(head)}' is not ${way}: ${values}`);
    }
  }
  if (!heads.length) say("no column of numbers to sort");
}

/* In the page: how a column says that it is sorted, and the numbers at the start of its cells. */
function column(head) {
  const rows = [...head.closest("table").tBodies[0].rows];
  const texts = rows.map((row) => row.cells[head.cellIndex].firstChild?.textContent.trim() ?? "");
  const numbers = texts.map((text) => parseFloat(text.replace(/[^0-9.eE+-]/g, "")));
  return { said: head.getAttribute("aria-sort"), values: numbers.filter((number) => !Number.isNaN(number)) };
}

/* The field above the longest table leaves the rows that have the word, none of a word that none has, then all. */
async function filter(page, say) {
  const table = await longest(page);
  const rows = () => table.$$eval("tbody tr", (all) => all.filter((row) => !row.hidden).map((row) => row.textContent));
  const all = await rows();
  const field = await table.evaluateHandle((it) => it.parentElement.previousElementSibling);
  if (!(await field.evaluate((it) => it.type === "search"))) {
    return all.length > 7 && say(`a table of ${all.length} rows has no field to filter it`);
  }
  const word = await table.$eval("tbody th", (it) => it.textContent.trim().toUpperCase());
  for (const asked of [word, "no row has this"]) {
    const wanted = all.filter((row) => row.toLowerCase().includes(asked.toLowerCase()));
    await field.evaluate((it) => it.select());
    await field.type(asked);
    if ((await rows()).join() !== wanted.join()) say(`filter '${asked}' leaves ${await rows()}`);
  }
  await field.evaluate((it) => it.select());
  await page.keyboard.press("Backspace");
  if ((await rows()).length !== all.length) say("an emptied filter hides rows");
}

/* A link into the page leads to what can be seen: a fold opens for it. */
async function link(page, selector, say) {
  for (const each of await page.$$(selector)) {
    await each.evaluate((it) => it.click());
    const seen = await each.evaluate((it) => document.getElementById(it.hash.slice(1)).checkVisibility());
    if (!seen) say(`'${await text(each)}' leads to what is folded`);
  }
}

async function longest(page) {
  const tables = await page.$$("main table");
  const lengths = await page.$$eval("main table", (all) => all.map((one) => one.tBodies[0].rows.length));
  return tables[lengths.indexOf(Math.max(...lengths))];
}

const text = (element) => element.evaluate((it) => it.textContent.trim().replace(/\s+/g, " ").slice(0, 80));

module.exports = { site, report, board };
