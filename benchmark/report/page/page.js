const data = JSON.parse(document.getElementById("data").textContent);
const form = document.getElementById("toolbar");
const viewer = document.getElementById("picture");
const sections = [...document.querySelectorAll("section.group")];
const groupOf = (section) => data.groups[Number(section.dataset.group)];
const isRow = (table) => table.tHead.rows[0].cells[0].textContent.trim() === "method";

/** An element with a class, and children that are elements or plain text. */
function make(tag, name, ...children) {
  const element = document.createElement(tag);
  if (name) element.className = name;
  element.append(...children);
  return element;
}

// Scores: those of the chosen protocol and metric.

function drawScores(section, { protocol, metric }) {
  const { views, axis } = groupOf(section).scores[metric];
  const view = views[protocol];
  const table = section.querySelector("table.scores");
  for (const row of table.tBodies[0].rows) {
    view.cells[Number(row.dataset.row)].forEach(([value, html], column) => {
      row.cells[column + 1].dataset.v = value ?? "";
      row.cells[column + 1].innerHTML = html;
    });
  }
  table.tFoot.replaceChildren(...view.extra.map((row) => make("tr", "", ...row.map((text, at) => make(at ? "td" : "th", "", text)))));
  section.querySelector(".scores-title").textContent = `${metric[0].toUpperCase()}${metric.slice(1)}, ${protocol}`;
  section.querySelector(".axis-low").textContent = axis[0];
  section.querySelector(".axis-high").textContent = axis[1];
  section.querySelector(".scores-caption").textContent = view.caption;
  section.querySelector(".scores-notes").replaceChildren(...view.notes.map((note) => make("li", "", note)));
  sortRows(table);
}

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
  if (keyed.some(({ row }, at) => body.rows[at] !== row)) body.append(...keyed.map(({ row }) => row));
}

function makeSortable(table) {
  [...table.tBodies[0].rows].forEach((row, at) => { row.dataset.at = at; });
  for (const head of table.tHead.rows[0].cells) {
    const button = make("button", "sort", ...head.childNodes);
    Object.assign(button, { type: "button", title: "Sort by this column" });
    head.append(button);
    button.addEventListener("click", () => {
      const order = head.cellIndex ? ["descending", "ascending", null] : ["ascending", "descending", null];
      const next = order[(order.indexOf(head.getAttribute("aria-sort")) + 1) % 3];
      for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
      if (next) head.setAttribute("aria-sort", next);
      sortRows(table);
    });
  }
}

// Filters: data sets are sections, label ratios columns or rows, names rows.

function filter({ dataset, ratio, find }) {
  for (const section of sections) {
    const group = groupOf(section);
    section.hidden = Boolean((dataset && group.dataset !== dataset) || (ratio && !group.ratios.includes(Number(ratio))));
    section.querySelectorAll("table").forEach((table) => filterTable(table, ratio, find.trim().toLowerCase()));
    section.querySelectorAll(".gallery li").forEach((item, at) => {
      item.hidden = Boolean(ratio) && group.pictures[at].ratio !== Number(ratio);
    });
  }
  document.querySelector(".nothing").hidden = sections.some((section) => !section.hidden) || !sections.length;
}

function filterTable(table, ratio, find) {
  const heads = [...table.tHead.rows[0].cells];
  const labels = heads.findIndex((head) => head.textContent.trim() === "labels");
  const hidden = heads.map((head) => {
    const own = head.dataset.ratio ?? /^(\d+) %/.exec(head.textContent.trim())?.[1];
    return Boolean(ratio && own !== undefined && own !== ratio);
  });
  for (const row of table.rows) [...row.cells].forEach((cell, at) => { cell.hidden = hidden[at]; });
  for (const row of table.tBodies[0].rows) {
    const other = ratio && labels >= 0 && row.cells[labels].textContent.trim() !== `${ratio} %`;
    row.hidden = Boolean(other || (isRow(table) && find && !row.cells[0].textContent.toLowerCase().includes(find)));
  }
}

// Runs: the details of one in a dialog.

function showRun(group, run) {
  const dialog = document.getElementById("run");
  const shared = (at) => (at === undefined ? undefined : data.shared[at]);
  dialog.querySelector("h2").textContent = `${group.rows[run.row]}, ${run.ratio} % labels, fold ${run.fold}, seed ${run.seed}`;
  const text = (title, words) => (words ? [make("h3", "", title), make("pre", "", words)] : []);
  const columns = (...pairs) => make("div", "columns", ...pairs.filter(([, found]) => found && Object.keys(found).length).map(block));
  const identity = { run: run.run_id, preset: run.preset, counts: run.counts, weights: run.weights };
  if (run.numerics !== undefined) identity["versions of numbers"] = JSON.stringify(shared(run.numerics));
  dialog.querySelector(".body").replaceChildren(
    make("p", "", make("span", run.scores ? "status" : "lost", run.status)),
    ...(run.reason ? [make("pre", "", run.reason)] : []), ...text("Command", run.command),
    columns(
      ...(run.scores ?? []).map(([protocol, found]) => [`Scores, ${protocol}`, Object.fromEntries(found)]), ["Cost", Object.fromEntries(run.cost ?? [])],
      ["Environment", shared(run.environment)], ["Data", shared(run.data)], ["Identity", identity],
    ),
    ...(run.settings === undefined ? [] : [make("h3", "", "Configuration"), columns(
      ["Not the same in every run of this table", shared(run.settings)], ["The same in every run of this table", group.common],
    )]),
  );
  dialog.showModal();
  dialog.scrollTop = 0;
}

function block([title, entries]) {
  const known = Object.entries(entries).filter(([, value]) => value !== null && value !== undefined);
  const written = (value) => (typeof value === "object" ? JSON.stringify(value) : String(value));
  return make("div", "", make("h3", "", title), make("dl", "", ...known.flatMap(([name, value]) => [make("dt", "", name), make("dd", "", written(value))])));
}

// Pictures: one overlay for all thumbnails; the dialog shows one image under the overlay of any row.

const view = { section: null, at: 0, name: "image alone", visible: true };
const png = (text) => `data:image/png;base64,${text}`;
const overlays = ({ truth, rows }) => [{ name: "image alone", dice: "" }, { name: "truth", dice: "", overlay: truth }, ...rows];
const chosen = (picture, name) => overlays(picture).find((found) => found.name === name) ?? overlays(picture)[0];

function lay(image, { overlay }, visible) {
  image.hidden = !overlay || !visible;
  if (overlay) image.src = png(overlay);
}

function preparePictures(section) {
  const { pictures, reference } = groupOf(section);
  const choice = section.querySelector(".overlays");
  if (!choice) return;
  const names = [...new Set(pictures.flatMap(overlays).map(({ name }) => name))];
  choice.replaceChildren(...names.map((name) => new Option(name, name)));
  choice.value = names.includes(reference) ? reference : names[2] ?? names[0];
  const draw = () => section.querySelectorAll(".gallery li").forEach((item, at) => {
    const found = chosen(pictures[at], choice.value);
    lay(item.querySelector(".over"), found, true);
    item.querySelector(".shown").textContent = found.dice ? `Dice ${found.dice} %` : "";
  });
  choice.addEventListener("change", draw);
  draw();
  section.querySelectorAll(".thumbnail").forEach((button, at) => button.addEventListener("click", () => {
    Object.assign(view, { section, at, name: choice.value, visible: true });
    viewer.showModal();
    drawViewer();
    viewer.querySelector(".rows :checked").focus({ preventScroll: true });
    viewer.scrollTop = 0;
  }));
}

function drawViewer() {
  const { pictures } = groupOf(view.section);
  const picture = pictures[view.at];
  const now = chosen(picture, view.name);
  viewer.querySelector("h2").textContent = [picture.rule, picture.id].filter(Boolean).join(": ");
  const { src, alt } = view.section.querySelectorAll(".gallery .plain")[view.at];
  Object.assign(viewer.querySelector(".plain"), { src, alt });
  lay(viewer.querySelector(".over"), now, view.visible);
  viewer.querySelector(".over").alt = `What ${now.name} has there`;
  viewer.querySelector(".place").textContent = `${view.at + 1} of ${pictures.length}`;
  const list = viewer.querySelector(".rows");
  const focused = list.contains(document.activeElement);
  const rank = ({ name, dice }) => (Number.parseFloat(dice) || (name === "image alone" || name === "truth" ? 101 : -1));
  list.replaceChildren(list.querySelector("legend"), ...overlays(picture).sort((a, b) => rank(b) - rank(a)).map(({ name, dice }) => {
    const input = Object.assign(make("input"), { type: "radio", name: "row", value: name, checked: name === now.name });
    return make("label", "", input, make("span", "", name), make("output", "", dice));
  }));
  if (focused) list.querySelector(":checked").focus({ preventScroll: true });
}

function step(by) {
  const { length } = groupOf(view.section).pictures;
  view.at = (view.at + by + length) % length;
  drawViewer();
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

// Start: everything is drawn once, then anew with every change of the form.

for (const dialog of document.querySelectorAll("dialog")) {
  dialog.querySelector(".close").addEventListener("click", () => dialog.close());
  dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
}
document.querySelectorAll("table.sortable").forEach(makeSortable);
for (const section of sections) {
  preparePictures(section);
  section.querySelectorAll(".open-run").forEach((button) => button.addEventListener("click", () => {
    const { runs } = groupOf(section);
    showRun(groupOf(section), runs[Number(button.closest("tr").dataset.run)]);
  }));
  const others = [...section.querySelectorAll(".other")];
  const all = section.querySelector(".all");
  if (all) all.hidden = false;
  all?.addEventListener("click", () => {
    const open = others.some((other) => !other.open);
    others.forEach((other) => { other.open = open; });
    all.textContent = open ? "close all" : "open all";
  });
}
let drawn = "strict dice";
function update() {
  const now = Object.fromEntries(new FormData(form));
  const wanted = `${now.protocol} ${now.metric}`;
  if (wanted !== drawn) sections.forEach((section) => drawScores(section, now));
  drawn = wanted;
  filter(now);
}
form.addEventListener("input", update);
form.addEventListener("change", update);
form.addEventListener("submit", (event) => event.preventDefault());
form.hidden = false;
update();
