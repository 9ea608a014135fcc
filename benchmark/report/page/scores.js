// Scores: what the template wrote for strict Dice, for any protocol and score.

function cellContent(cell) {
  if (cell.value === undefined) return make("span", "none", cell.why);
  const mean = make("span", "mean", cell.best ? make("strong", "", cell.mean) : cell.mean);
  const n = cell.n < cell.of ? make("span", "part", `(${cell.n}/${cell.of})`) : `n=${cell.n}`;
  const figures = make("span", "figures", mean);
  if (cell.sd) figures.append(make("span", "sd", ` ± ${cell.sd}`));
  figures.append(make("br"), make("span", "small", n, cell.interval ? ` ${cell.interval}` : ""));
  return make("span", "cell", figures, bar(cell));
}

function bar(cell) {
  const box = make("span", "bar");
  box.setAttribute("aria-hidden", "true");
  for (const at of cell.draws) box.append(placed("draw", at));
  if (cell.line) box.append(placed("whisker", ...cell.line));
  box.append(placed("dot", cell.at));
  return box;
}

function placed(name, left, right) {
  const mark = make("i", name);
  mark.style.left = `${left}%`;
  if (right !== undefined) mark.style.right = `${right}%`;
  return mark;
}

function drawScores(section, { protocol, metric }) {
  const group = groupOf(section);
  const { views, axis } = group.scores[metric];
  const view = views[protocol];
  const table = section.querySelector("table.scores");
  for (const row of table.tBodies[0].rows) {
    view.cells[Number(row.dataset.label)].forEach((cell, column) => {
      const place = row.cells[column + 1];
      place.dataset.v = cell.value ?? "";
      place.replaceChildren(cellContent(cell));
    });
  }
  table.tFoot.replaceChildren(...view.extra.map((row) => make("tr", "", ...row.map((text, column) => {
    const cell = make(column ? "td" : "th", "", text);
    if (column) cell.dataset.ratio = group.ratios[column - 1];
    else cell.scope = "row";
    return cell;
  }))));
  section.querySelector(".scores-title").textContent = `${metric[0].toUpperCase()}${metric.slice(1)}, ${protocol}`;
  section.querySelector(".axis-low").textContent = axis[0];
  section.querySelector(".axis-high").textContent = axis[1];
  section.querySelector(".scores-caption").textContent = view.caption;
  section.querySelector(".scores-notes").replaceChildren(...view.notes.map((note) => make("li", "", note)));
  sortRows(table);
}
