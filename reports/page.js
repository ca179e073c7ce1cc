"use strict";
// Sorting: a heading's button orders its column, numbers by data-sort, words by their text.
function key(row, column) {
  const cell = row.cells[column];
  const given = cell.dataset.sort;
  return given === undefined ? cell.textContent.trim() : Number(given);
}
function compare(a, b) {
  if (typeof a === typeof b) {
    return typeof a === "number" ? a - b : a.localeCompare(b, "en", { numeric: true });
  }
  return typeof a === "number" ? -1 : 1; // numbers before what has none
}
function sort(head) {
  const table = head.closest("table");
  const column = head.cellIndex;
  const down = head.next ?? head.classList.contains("n");
  const rows = [...table.tBodies[0].rows].map((row) => [key(row, column), row]);
  rows.sort(([a], [b]) => (down && typeof a === typeof b ? compare(b, a) : compare(a, b)));
  table.tBodies[0].append(...rows.map(([, row]) => row));
  for (const other of table.tHead.rows[0].cells) {
    other.setAttribute("aria-sort", "none");
    other.next = undefined;
  }
  head.setAttribute("aria-sort", down ? "descending" : "ascending");
  head.next = !down;
}
document.addEventListener("click", (event) => {
  const head = event.target.closest("thead th");
  if (head) sort(head);
});
// Charts: one mark of a chart is in the Tab order, arrow keys go on; what is pointed at is read out.
const order = (marks) =>
  marks.map((m) => [m.getBoundingClientRect().x, m]).sort(([a], [b]) => a - b).map(([, m]) => m);
for (const figure of document.querySelectorAll("figure")) {
  const marks = [...figure.querySelectorAll(".mark")];
  const readout = figure.querySelector(".readout");
  marks.forEach((mark, k) => mark.setAttribute("tabindex", k ? "-1" : "0"));
  const say = (mark) => (readout.textContent = mark ? mark.getAttribute("aria-label") : "");
  figure.addEventListener("pointerover", (event) => {
    const mark = event.target.closest(".mark");
    if (mark) say(mark);
  });
  figure.addEventListener("focusin", (event) => {
    const mark = event.target.closest(".mark");
    if (!mark) return;
    marks.forEach((m) => m.setAttribute("tabindex", m === mark ? "0" : "-1"));
    say(mark);
  });
  figure.addEventListener("keydown", (event) => {
    const mark = event.target.closest(".mark");
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    const ends = { Home: 0, End: -1 }[event.key];
    if (!mark || (step === undefined && ends === undefined)) return;
    event.preventDefault();
    const list = mark.classList.contains("bar") ? marks : order(marks);
    const at = ends ?? (list.indexOf(mark) + step + list.length) % list.length;
    list.at(at).focus();
  });
}
