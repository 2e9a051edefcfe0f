// sorts tables and copies commands
"use strict";
{
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];
  const key = (row, column) => {
    const cell = row.children[column], text = cell.dataset.v ?? cell.textContent.trim();
    const number = parseFloat(text.replace(/,/g, ""));
    return /^[-+\d.]/.test(text) && !isNaN(number) ? number : text.toLowerCase();
  };
  const compare = (a, b, up) => {
    if (typeof a !== typeof b) { return typeof a === "number" ? -1 : 1; }  // no number comes last
    return (a < b ? -1 : a > b ? 1 : 0) * (up ? 1 : -1);
  };
  const button = (words) =>
    Object.assign(document.createElement("button"), { type: "button", textContent: words });
  for (const table of all("table.sort")) {
    all("thead th", table).forEach((head, column, heads) => {
      const sort = button("");
      sort.append(...head.childNodes);
      head.append(sort);
      sort.addEventListener("click", () => {
        const up = head.getAttribute("aria-sort") !== "ascending", body = table.tBodies[0];
        heads.forEach((other) => other.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", up ? "ascending" : "descending");
        const rows = all("tr", body).map((row) => [key(row, column), row]);
        rows.sort((a, b) => compare(a[0], b[0], up));
        body.append(...rows.map(([, row]) => row));
      });
    });
  }
  for (const block of all(".copy")) {
    const copy = button("Copy"), code = block.querySelector("code");
    const said = (word) => {
      copy.textContent = word;
      setTimeout(() => { copy.textContent = "Copy"; }, 1600);
    };
    const mark = () => {
      getSelection().selectAllChildren(code);
      said(document.execCommand("copy") ? "Copied" : "Selected");
    };
    copy.addEventListener("click", () => {
      if (!navigator.clipboard) { mark(); return; }
      navigator.clipboard.writeText(code.textContent).then(() => said("Copied"), mark);
    });
    block.append(copy);
  }
}
