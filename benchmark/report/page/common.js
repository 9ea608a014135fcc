// Common: the data, the parts of the page, and a way to make elements.

const data = JSON.parse(document.getElementById("data").textContent);
const form = document.getElementById("toolbar");
const sections = [...document.querySelectorAll("section.group")];
const groupOf = (section) => data.groups[Number(section.dataset.group)];
const state = () => Object.fromEntries(new FormData(form));

/** An element with a class, and children that are elements or plain text. */
function make(tag, name, ...children) {
  const element = document.createElement(tag);
  if (name) element.className = name;
  element.append(...children);
  return element;
}
