"use strict";
// Tables sort by a click on a column's head and filter by a word; marks of figures tell their numbers on hover and focus.
const told = document.getElementById("told");
for (const mark of document.querySelectorAll("svg [tabindex]")) {
  const show = (marks) => {
    const box = mark.getBoundingClientRect();
    const page = document.documentElement;
    told.textContent = marks.map((one) => one.getAttribute("aria-label")).join("\n");
    told.hidden = false;
    const left = Math.min(box.right + 8, page.clientWidth - told.offsetWidth - 8);
    const below = page.clientHeight >= box.bottom + 8 + told.offsetHeight;
    told.style.left = `${Math.max(8, left)}px`;
    told.style.top = `${below ? box.bottom + 8 : Math.max(8, box.top - 8 - told.offsetHeight)}px`;
  };
  // Of marks on each other the pointer reaches the uppermost alone: all that lie under it are told.
  const under = ({ clientX, clientY }) => {
    const found = document.elementsFromPoint(clientX, clientY).map((one) => one.closest("svg [tabindex]"));
    return [...new Set([mark, ...found.filter((one) => one)])];
  };
  const hide = () => { told.hidden = true; };
  mark.addEventListener("pointerenter", (event) => show(under(event)));
  mark.addEventListener("focus", () => show([mark]));
  mark.addEventListener("pointerleave", hide);
  mark.addEventListener("blur", hide);
}
document.addEventListener("keydown", (event) => { if (event.key === "Escape") told.hidden = true; });
addEventListener("scroll", () => { told.hidden = true; }, { passive: true });

const value = (row, place) => {
  const text = row.cells[place].firstChild ? row.cells[place].firstChild.textContent.trim() : "";
  const number = parseFloat(text.replace(/[^0-9.eE+-]/g, ""));
  return { text, number };
};
for (const table of document.querySelectorAll("table")) {
  const body = table.tBodies[0];
  const rows = Array.from(body.rows);
  Array.from(table.tHead.rows[0].cells).forEach((head, place) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") === "ascending";
      for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const numeric = head.classList.contains("number");
      const order = (a, b) => {
        const [x, y] = [value(a, place), value(b, place)];
        if (!numeric) return x.text.localeCompare(y.text, undefined, { numeric: true });
        if (Number.isNaN(x.number)) return Number.isNaN(y.number) ? 0 : 1e9;
        if (Number.isNaN(y.number)) return -1e9;
        return x.number - y.number;
      };
      body.append(...rows.slice().sort((a, b) => (down ? order(b, a) : order(a, b))));
    });
  });
  if (rows.length > 7) {
    const field = document.createElement("input");
    field.type = "search";
    field.placeholder = "filter rows";
    field.setAttribute("aria-label", `filter rows of ${table.parentElement.getAttribute("aria-label")}`);
    field.addEventListener("input", () => {
      const asked = field.value.toLowerCase();
      for (const row of rows) row.hidden = !row.textContent.toLowerCase().includes(asked);
    });
    table.parentElement.before(field);
  }
}
// A link into a fold opens it.
const open = () => {
  const target = location.hash ? document.getElementById(decodeURIComponent(location.hash.slice(1))) : null;
  for (let at = target; at; at = at.parentElement) if (at.tagName === "DETAILS") at.open = true;
  if (target) target.scrollIntoView();
};
addEventListener("hashchange", open);
open();
