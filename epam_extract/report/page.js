"use strict";
const table = document.getElementById("table");
if (table) {
  const body = table.tBodies[0];
  const search = document.getElementById("search");
  const kind = document.getElementById("kind");
  const shown = document.getElementById("shown");
  const blocks = document.getElementById("blocks");

  function filter() {
    const name = search.value.toLowerCase();
    let count = 0;
    for (const one of [...body.rows, ...blocks.children]) {
      const kinds = one.dataset.kinds.split(" ");
      const fits = kind.value === "" || (kind.value === "*" ? one.dataset.kinds !== "" : kinds.includes(kind.value));
      one.hidden = !(fits && one.dataset.name.toLowerCase().includes(name));
      count += one.tagName === "TR" && !one.hidden;
    }
    shown.value = `${count.toLocaleString("en")} ${count === 1 ? "video" : "videos"}`;
  }

  function sort(button) {
    const head = button.closest("th");
    const first = button.dataset.kind === "text" ? "ascending" : "descending";
    const other = first === "ascending" ? "descending" : "ascending";
    const order = head.getAttribute("aria-sort") === first ? other : first;
    for (const each of table.tHead.rows[0].cells) each.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", order);
    const sign = order === "ascending" ? 1 : -1;
    const value = (row) => row.cells[head.cellIndex].dataset.value;
    const compare = button.dataset.kind === "text"
      ? (a, b) => value(a).localeCompare(value(b), "en", { numeric: true })
      : (a, b) => Number(value(a)) - Number(value(b));
    const rows = [...body.rows].sort((a, b) => sign * compare(a, b));
    body.append(...rows);
    const articles = new Map([...blocks.children].map((one) => [`#${one.id}`, one]));
    const links = rows.map((row) => row.querySelector("a")?.getAttribute("href"));
    blocks.append(...links.map((link) => articles.get(link)).filter(Boolean));
  }

  search.addEventListener("input", filter);
  kind.addEventListener("change", filter);
  search.form.addEventListener("submit", (event) => event.preventDefault());
  for (const button of table.querySelectorAll("thead button")) {
    button.addEventListener("click", () => sort(button));
  }
  filter(); // browsers keep what was typed when a page is loaded again
}
