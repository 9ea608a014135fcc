// Sorting: a button in every header; descending, ascending, then the order of the report again.

const NUMBER = /^[<≤~[(]?\s*([+\-−]?[\d,]*\.?\d+(?:e[+\-]?\d+)?)/i;

function key(cell) {
  const text = cell.dataset.v ?? cell.textContent.trim();
  if (text === "" || text.startsWith("–")) return null;
  const found = cell.tagName === "TH" ? null : NUMBER.exec(text);
  return found ? Number(found[1].replaceAll(",", "").replace("−", "-")) : text;
}

function compare(a, b) {
  if (typeof a === typeof b) return typeof a === "number" ? a - b : a.localeCompare(b, "en", { numeric: true });
  return typeof a === "number" ? -1 : 1;
}

function sortRows(table) {
  const head = table.tHead.querySelector("[aria-sort]");
  const body = table.tBodies[0];
  const keyed = [...body.rows].map((row) => ({ row, at: Number(row.dataset.at), key: head && key(row.cells[head.cellIndex]) }));
  const sign = head?.getAttribute("aria-sort") === "descending" ? -1 : 1;
  keyed.sort((a, b) => {
    if (a.key === null || b.key === null) return (a.key === null) - (b.key === null) || a.at - b.at;
    return sign * compare(a.key, b.key) || a.at - b.at;
  });
  const rows = keyed.map((entry) => entry.row);
  if (rows.some((row, at) => body.rows[at] !== row)) body.append(...rows);
}

function makeSortable(table) {
  [...table.tBodies[0].rows].forEach((row, at) => { row.dataset.at = at; });
  for (const head of table.tHead.rows[0].cells) {
    const button = make("button", "sort", ...head.childNodes);
    button.type = "button";
    button.title = "Sort by this column";
    head.append(button);
    button.addEventListener("click", () => {
      const text = head.cellIndex === 0;
      const order = text ? ["ascending", "descending", null] : ["descending", "ascending", null];
      const next = order[(order.indexOf(head.getAttribute("aria-sort")) + 1) % 3];
      for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
      if (next) head.setAttribute("aria-sort", next);
      sortRows(table);
    });
  }
}

// Filters: data sets are sections, label ratios columns or rows, names rows.

function filter({ dataset, ratio, find }) {
  let shown = 0;
  for (const section of sections) {
    const group = groupOf(section);
    section.hidden = Boolean((dataset && group.dataset !== dataset) || (ratio && !group.ratios.includes(Number(ratio))));
    if (section.hidden) continue;
    shown += 1;
    section.querySelectorAll("table").forEach((table) => filterTable(table, ratio, find.trim().toLowerCase()));
    section.querySelectorAll(".gallery li").forEach((item, at) => {
      item.hidden = Boolean(ratio) && group.pictures[at].ratio !== Number(ratio);
    });
  }
  document.querySelector(".nothing").hidden = shown > 0 || !sections.length;
}

function filterTable(table, ratio, find) {
  const heads = [...table.tHead.rows[0].cells];
  const labels = heads.findIndex((head) => head.textContent.trim() === "labels");
  const named = heads[0].textContent.trim() === "method";
  const hidden = heads.map((head) => {
    const own = head.dataset.ratio ?? /^(\d+) %/.exec(head.textContent.trim())?.[1];
    return Boolean(ratio && own !== undefined && own !== ratio);
  });
  for (const row of table.rows) [...row.cells].forEach((cell, at) => { cell.hidden = hidden[at]; });
  for (const row of table.tBodies[0].rows) {
    const other = ratio && labels >= 0 && row.cells[labels].textContent.trim() !== `${ratio} %`;
    row.hidden = Boolean(other || (named && find && !row.cells[0].textContent.toLowerCase().includes(find)));
  }
}
