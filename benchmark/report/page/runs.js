// Runs: the list is made when it is first opened; details are in a dialog.

function listRuns(section) {
  const group = groupOf(section);
  const box = section.querySelector(".runs .scroll");
  if (box.childElementCount) return;
  const titles = ["method", "labels", "fold", "seed", "status", "strict Dice"];
  const reasons = group.runs.some((run) => run.reason);
  if (reasons) titles.push("reason");
  const rows = group.runs.map((run) => {
    const button = make("button", "open-run", group.labels[run.label]);
    button.type = "button";
    button.addEventListener("click", () => showRun(group, run));
    const head = make("th", "", button);
    head.scope = "row";
    const status = make("span", run.scores ? "" : "lost", run.status);
    const cells = [`${run.ratio} %`, run.fold, run.seed, status, strictDice(run)];
    if (reasons) cells.push(shortened(run.reason ?? ""));
    const row = make("tr", "", head, ...cells.map((cell) => make("td", "", cell instanceof Node ? cell : String(cell))));
    if (reasons) row.lastChild.className = "long";
    return row;
  });
  const heads = titles.map((title) => { const head = make("th", "", title); head.scope = "col"; return head; });
  if (reasons) heads.at(-1).className = "long";
  const table = make("table", "sortable", make("thead", "", make("tr", "", ...heads)), make("tbody", "", ...rows));
  makeSortable(table);
  box.append(table);
  filter(state());
}

const strictDice = (run) => new Map(new Map(run.scores).get("strict")).get("dice") ?? "–";
const shortened = (text) => (text.length > 160 ? `${text.slice(0, 160)} …` : text);

function showRun(group, run) {
  const dialog = document.getElementById("run");
  const body = dialog.querySelector(".body");
  dialog.querySelector("h2").textContent = `${group.labels[run.label]}, ${run.ratio} % labels, fold ${run.fold}, seed ${run.seed}`;
  body.replaceChildren(make("p", "", make("span", run.scores ? "status" : "lost", run.status)));
  if (run.reason) body.append(make("pre", "", run.reason));
  if (run.command) body.append(make("h3", "", "Command"), make("pre", "", run.command));
  const columns = make("div", "columns");
  for (const [protocol, scores] of run.scores ?? []) columns.append(block(`Scores, ${protocol}`, scores));
  if (run.cost) columns.append(block("Cost", run.cost));
  if (run.environment !== undefined) columns.append(block("Environment", data.environments[run.environment]));
  if (run.data !== undefined) columns.append(block("Data", group.facts[run.data]));
  const identity = { run: run.id, preset: run.preset, counts: run.counts, weights: run.weights };
  if (run.numerics !== undefined) identity["versions of numbers"] = JSON.stringify(group.facts[run.numerics]);
  columns.append(block("Identity", identity));
  body.append(columns);
  if (run.settings !== undefined) {
    const own = group.settings[run.settings];
    body.append(make("h3", "", "Configuration"));
    const pair = make("div", "columns");
    if (Object.keys(own).length) pair.append(block("Not the same in every run of this table", own));
    if (Object.keys(group.common).length) pair.append(block("The same in every run of this table", group.common));
    body.append(pair);
  }
  dialog.showModal();
  dialog.scrollTop = 0;
}

function block(title, entries) {
  const list = make("dl");
  for (const [name, value] of Array.isArray(entries) ? entries : Object.entries(entries)) {
    if (value === null || value === undefined) continue;
    list.append(make("dt", "", name), make("dd", "", typeof value === "object" ? JSON.stringify(value) : String(value)));
  }
  return make("div", "", make("h3", "", title), list);
}
