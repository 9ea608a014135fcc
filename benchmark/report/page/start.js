// Start: everything is drawn once, then anew with every change of the form.

for (const dialog of document.querySelectorAll("dialog")) {
  dialog.querySelector(".close").addEventListener("click", () => dialog.close());
  dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
}
document.querySelectorAll("table.sortable").forEach(makeSortable);
for (const section of sections) {
  preparePictures(section);
  const runs = section.querySelector(".runs");
  runs.addEventListener("toggle", () => listRuns(section));
  const all = section.querySelector(".all");
  if (all) {
    const others = [...section.querySelectorAll(".other")];
    all.hidden = false;
    all.addEventListener("click", () => {
      const open = others.some((other) => !other.open);
      others.forEach((other) => { other.open = open; });
      all.textContent = open ? "close all" : "open all";
    });
  }
}
let drawn = "";
function update() {
  const now = state();
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
