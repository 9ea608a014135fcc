// Pictures: one overlay for all thumbnails; the dialog shows one image under the overlay of any row.

const png = (text) => `data:image/png;base64,${text}`;
const viewer = document.getElementById("picture");
const view = { section: null, at: 0, row: "image", visible: true };

/** What can lie over a picture: nothing, the truth, or a row by its number among the picture's rows. */
function overlays(picture) {
  const found = [{ row: "image", name: "image alone", dice: "" }];
  if (picture.truth) found.push({ row: "truth", name: "truth", dice: "", source: picture.truth });
  picture.rows.forEach((label, at) => {
    found.push({ row: `row ${label}`, name: label, dice: picture.dice[at], source: picture.overlays[at] });
  });
  return found;
}

const chosen = (picture, row) => overlays(picture).find((overlay) => overlay.row === row) ?? overlays(picture)[0];

function preparePictures(section) {
  const { pictures, reference } = groupOf(section);
  const choice = section.querySelector(".overlays");
  if (choice) {
    const names = new Map(pictures.flatMap(overlays).map(({ row, name }) => [row, name]));
    choice.replaceChildren(...[...names].map(([row, name]) => new Option(name, row)));
    const first = pictures.flatMap((picture) => picture.rows)[0];
    choice.value = names.has(`row ${reference}`) ? `row ${reference}` : `row ${first}`;
    choice.addEventListener("change", () => drawThumbnails(section, choice.value));
    drawThumbnails(section, choice.value);
  }
  for (const button of section.querySelectorAll(".thumbnail")) {
    button.addEventListener("click", () => {
      Object.assign(view, { section, at: Number(button.dataset.picture), row: choice?.value ?? "image", visible: true });
      viewer.showModal();
      drawViewer();
      viewer.querySelector(".rows :checked").focus({ preventScroll: true });
      viewer.scrollTop = 0;
    });
  }
}

function drawThumbnails(section, row) {
  section.querySelectorAll(".gallery li").forEach((item, at) => {
    const { source, dice } = chosen(groupOf(section).pictures[at], row);
    const stack = item.querySelector(".stack");
    stack.querySelector(".over")?.remove();
    if (source) {
      const image = make("img", "over");
      image.alt = "";
      image.src = png(source);
      stack.append(image);
    }
    item.querySelector(".shown").textContent = dice ? `Dice ${dice} %` : "";
  });
}

function drawViewer() {
  const { pictures } = groupOf(view.section);
  const picture = pictures[view.at];
  const now = chosen(picture, view.row);
  viewer.querySelector("h2").textContent = [picture.rule, picture.id].filter(Boolean).join(": ");
  const plain = viewer.querySelector(".plain");
  plain.src = view.section.querySelectorAll(".gallery .plain")[view.at].src;
  plain.alt = `Test image ${picture.id}`;
  const over = viewer.querySelector(".over");
  over.hidden = !now.source || !view.visible;
  over.alt = `What ${now.name} has there`;
  if (now.source) over.src = png(now.source);
  viewer.querySelector(".place").textContent = `${view.at + 1} of ${pictures.length}`;
  const list = viewer.querySelector(".rows");
  const ordered = overlays(picture).sort((a, b) => rank(b) - rank(a)).map((overlay) => {
    const input = make("input");
    input.type = "radio";
    input.name = "row";
    input.value = overlay.row;
    input.checked = overlay.row === now.row;
    return make("label", "", input, make("span", "", overlay.name), make("output", "", overlay.dice));
  });
  const focused = list.contains(document.activeElement);
  list.replaceChildren(list.querySelector("legend"), ...ordered);
  if (focused) list.querySelector(":checked").focus({ preventScroll: true });
}

/** Image and truth first, then rows by their Dice, those without one last. */
const rank = ({ row, dice }) => (row.startsWith("row ") ? Number.parseFloat(dice) || -1 : 101);

function step(by) {
  const pictures = groupOf(view.section).pictures.length;
  view.at = (view.at + by + pictures) % pictures;
  drawViewer();
}

viewer.addEventListener("change", (event) => {
  Object.assign(view, { row: event.target.value, visible: true });
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
