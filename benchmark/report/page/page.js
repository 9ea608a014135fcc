const data = JSON.parse(document.getElementById("data").textContent);
const form = document.getElementById("toolbar");
const viewer = document.getElementById("picture");
const all = (selector, inside = document) => [...inside.querySelectorAll(selector)];

/** An element with a class, and children that are elements or plain text. */
function make(tag, name, ...children) {
  const element = document.createElement(tag);
  if (name) element.className = name;
  element.append(...children);
  return element;
}

// Sorting: descending, ascending, then the order of the report again; all score tables of a section together.

const NUMBER = /^[<≤~[(]?\s*([+\-−]?[\d,]*\.?\d+(?:e[+\-]?\d+)?)/i;

function key(cell) {
  const text = cell.textContent.trim();
  if (text === "" || text.startsWith("–") || cell.querySelector(".none")) return null;
  const found = cell.tagName === "TH" ? null : NUMBER.exec(text);
  return found ? Number(found[1].replaceAll(",", "").replace("−", "-")) : text;
}

function compare(a, b) {
  if (typeof a === typeof b) return typeof a === "number" ? a - b : a.localeCompare(b, "en", { numeric: true });
  return typeof a === "number" ? -1 : 1;
}

function sortRows(table, column, order) {
  for (const head of table.tHead.rows[0].cells) head.removeAttribute("aria-sort");
  if (order) table.tHead.rows[0].cells[column].setAttribute("aria-sort", order);
  const sign = order === "descending" ? -1 : 1;
  const keyed = [...table.tBodies[0].rows].map((row) => ({ row, at: Number(row.dataset.at), key: order && key(row.cells[column]) }));
  keyed.sort((a, b) => {
    if (a.key === null || b.key === null) return (a.key === null) - (b.key === null) || a.at - b.at;
    return sign * compare(a.key, b.key) || a.at - b.at;
  });
  table.tBodies[0].append(...keyed.map(({ row }) => row));
}

for (const button of all(".sort")) {
  button.addEventListener("click", () => {
    const head = button.parentElement;
    const table = button.closest("table");
    const orders = head.cellIndex ? ["descending", "ascending", null] : ["ascending", "descending", null];
    const order = orders[(orders.indexOf(head.getAttribute("aria-sort")) + 1) % 3];
    const together = table.matches(".scores") ? all(".scores", table.closest("section")) : [table];
    together.forEach((one) => sortRows(one, head.cellIndex, order));
  });
}

// Filters: data sets are sections, label ratios columns, rows or pictures, names rows.

function filter() {
  const { dataset, ratio, find } = Object.fromEntries(new FormData(form));
  for (const section of all("section.group")) {
    const { dataset: own, ratios } = section.dataset;
    section.hidden = Boolean((dataset && own !== dataset) || (ratio && !ratios.split(" ").includes(ratio)));
  }
  for (const element of all("main [data-ratio], main [data-name]:not(img)")) {
    const { ratio: own = ratio, name = find } = element.dataset;
    element.hidden = Boolean((ratio && own !== ratio) || !name.toLowerCase().includes(find.trim().toLowerCase()));
  }
  document.querySelector(".nothing").hidden = all("section.group").some((section) => !section.hidden) || !data.groups.length;
}
form.addEventListener("input", filter);
form.addEventListener("change", filter);
form.addEventListener("submit", (event) => event.preventDefault());
filter();

// Runs: the details of one in a dialog.

function columns(blocks) {
  return make("div", "columns", ...blocks.map(([title, at]) => {
    const known = Object.entries(data.shared[at]).filter(([, value]) => value !== null);
    const written = (value) => (typeof value === "object" ? JSON.stringify(value) : String(value));
    return make("div", "", make("h3", "", title), make("dl", "", ...known.flatMap(([name, value]) => [make("dt", "", name), make("dd", "", written(value))])));
  }));
}

function showRun(run) {
  const dialog = document.getElementById("run");
  dialog.querySelector("h2").textContent = `${run.row}, ${run.ratio} % labels, fold ${run.fold}, seed ${run.seed}`;
  dialog.querySelector(".body").replaceChildren(
    make("p", "", make("span", run.status === "done" ? "status" : "lost", run.status)),
    ...(run.reason ? [make("pre", "", run.reason)] : []),
    ...(run.command ? [make("h3", "", "Command"), make("pre", "", run.command)] : []),
    columns(run.blocks),
    ...(run.settings.length ? [make("h3", "", "Configuration"), columns(run.settings)] : []),
  );
  dialog.showModal();
  dialog.scrollTop = 0;
}
for (const button of all(".open-run")) {
  const { group } = button.closest("section").dataset;
  button.addEventListener("click", () => showRun(data.groups[group].runs[button.closest("tr").dataset.at]));
}

// Pictures: one overlay for all thumbnails; the dialog shows one image under the overlay of any row.

const view = { items: [], at: 0, name: "", visible: true };

/** Show the overlay of this name, if the image has one; its Dice as text. */
function lay(image, name) {
  const overlays = all(".over", image);
  overlays.forEach((overlay) => { overlay.hidden = overlay.dataset.name !== name; });
  return overlays.find((overlay) => !overlay.hidden)?.dataset.dice;
}

function drawViewer() {
  const { items, at, name, visible } = view;
  viewer.querySelector("h2").textContent = items[at].dataset.title;
  viewer.querySelector(".stack").replaceChildren(...all("img", items[at]).map((image) => image.cloneNode()));
  viewer.querySelector(".place").textContent = `${at + 1} of ${items.length}`;
  lay(viewer, visible ? name : "");
  const rows = all(".over", viewer).map(({ dataset }) => dataset);
  rows.sort((a, b) => (a.name === "truth" ? -1 : b.name === "truth" ? 1 : b.dice - a.dice));
  const list = viewer.querySelector(".rows div");
  const focused = list.contains(document.activeElement);
  const known = rows.some((row) => row.name === name);
  list.replaceChildren(...[{ name: "image alone", dice: "" }, ...rows].map((row) => {
    const checked = row.name === name || (!known && row.name === "image alone");
    const input = Object.assign(make("input"), { type: "radio", name: "row", value: row.name, checked });
    return make("label", "", input, make("span", "", row.name), make("output", "", row.dice));
  }));
  if (focused) list.querySelector(":checked").focus({ preventScroll: true });
}

function step(by) {
  view.at = (view.at + by + view.items.length) % view.items.length;
  drawViewer();
}

for (const choice of all(".overlays")) {
  const items = all(".gallery li", choice.closest("section"));
  const draw = () => items.forEach((item) => {
    const dice = lay(item, choice.value);
    item.querySelector(".shown").textContent = dice ? `Dice ${dice} %` : "";
  });
  choice.addEventListener("change", draw);
  draw();
  items.forEach((item, at) => item.querySelector(".thumbnail").addEventListener("click", () => {
    Object.assign(view, { items, at, name: choice.value, visible: true });
    viewer.showModal();
    drawViewer();
    viewer.querySelector(".rows :checked").focus({ preventScroll: true });
    viewer.scrollTop = 0;
  }));
}
viewer.addEventListener("change", (event) => {
  Object.assign(view, { name: event.target.value, visible: true });
  drawViewer();
});
viewer.querySelector(".previous").addEventListener("click", () => step(-1));
viewer.querySelector(".next").addEventListener("click", () => step(1));
viewer.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const actions = { ArrowLeft: () => step(-1), ArrowRight: () => step(1), o: () => { view.visible = !view.visible; drawViewer(); } };
  const action = actions[event.key.length === 1 ? event.key.toLowerCase() : event.key];
  if (!action) return;
  event.preventDefault();
  action();
});

for (const dialog of all("dialog")) dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
for (const button of all(".all")) {
  button.addEventListener("click", () => {
    const others = all(".other", button.closest("section"));
    const open = others.some((other) => !other.open);
    others.forEach((other) => { other.open = open; });
    button.textContent = open ? "close all" : "open all";
  });
}
