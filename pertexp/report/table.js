"use strict";
(() => {
  const all = (where, what) => [...where.querySelectorAll(what)];

  // Sort the rows of the table a header stands in: first click best first, second click worst first.
  function sortBy(button) {
    const header = button.closest("th"), table = button.closest("table"), at = header.cellIndex;
    const first = header.dataset.better === "low" ? "ascending" : "descending";
    const other = first === "ascending" ? "descending" : "ascending";
    const order = header.getAttribute("aria-sort") === first ? other : first;
    all(table, "thead th[aria-sort]").forEach((cell) => cell.removeAttribute("aria-sort"));
    header.setAttribute("aria-sort", order);
    const body = table.tBodies[0], sign = order === "ascending" ? 1 : -1;
    const value = (row) => parseFloat(row.cells[at].dataset.value);
    const compare = (a, b) => {
      const x = value(a), y = value(b);
      if (Number.isNaN(x) || Number.isNaN(y)) return Number.isNaN(x) - Number.isNaN(y);
      return sign * (x - y);
    };
    body.append(...[...body.rows].sort(compare));
  }

  // Show the rows and columns whose names hold what was typed; a family without a column left goes altogether.
  function filter(scores) {
    const typed = (name) => scores.querySelector(`[data-filter=${name}]`).value.trim().toLowerCase();
    const row = typed("row"), column = typed("column");
    scores.dataset.show = scores.querySelector("[data-filter=level]").value;
    let left = 0;
    for (const family of all(scores, "[data-family]")) {
      let shown = 0;
      const table = family.querySelector("table");
      [...table.tHead.rows[0].cells].forEach((header, at) => {
        if (!header.dataset.metric) return;
        const hide = !header.dataset.metric.toLowerCase().includes(column);
        all(table, "tr").forEach((line) => { line.cells[at].hidden = hide; });
        shown += !hide && getComputedStyle(header).display !== "none";
      });
      all(table, "tbody tr").forEach((line) => { line.hidden = !line.dataset.row.toLowerCase().includes(row); });
      family.style.display = shown ? "" : "none";
      left += shown;
    }
    scores.querySelector("[data-nothing]").hidden = left > 0;
  }

  for (const button of all(document, "th button")) button.addEventListener("click", () => sortBy(button));
  for (const scores of all(document, "[data-scores]")) {
    for (const control of all(scores, "[data-filter]")) control.addEventListener(control.matches("select") ? "change" : "input", () => {
      // A family that was taken away counts as shown while its columns are looked at.
      all(scores, "[data-family]").forEach((family) => { family.style.display = ""; });
      filter(scores);
    });
    filter(scores);
  }
  for (const choice of all(document, "select[data-figures]")) {
    const figures = [...document.getElementById(choice.dataset.figures).children];
    const show = () => figures.forEach((figure, at) => { figure.hidden = at !== choice.selectedIndex; });
    choice.addEventListener("change", show);
    show();
  }
})();
