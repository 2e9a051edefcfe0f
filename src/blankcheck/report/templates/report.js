// sorts tables, copies commands, opens everything for printing, and marks where in the page the reader is
(function () {
  "use strict";
  function all(selector, root) { return Array.prototype.slice.call((root || document).querySelectorAll(selector)); }
  function key(row, column) {
    var cell = row.children[column], said = cell.getAttribute("data-v");
    var text = said === null ? cell.textContent.trim() : said, number = parseFloat(text.replace(/,/g, ""));
    return /^[-+\d.]/.test(text) && !isNaN(number) ? number : text.toLowerCase();
  }
  function compare(a, b, up) {
    if (typeof a !== typeof b) { return typeof a === "number" ? -1 : 1; }  // where there is no number comes last
    return (a < b ? -1 : a > b ? 1 : 0) * (up ? 1 : -1);
  }
  all("table.sort").forEach(function (table) {
    all("thead th", table).forEach(function (head, column, heads) {
      var button = document.createElement("button");
      button.type = "button";
      while (head.firstChild) { button.appendChild(head.firstChild); }
      head.appendChild(button);
      button.addEventListener("click", function () {
        var up = head.getAttribute("aria-sort") !== "ascending", body = table.tBodies[0];
        heads.forEach(function (other) { other.removeAttribute("aria-sort"); });
        head.setAttribute("aria-sort", up ? "ascending" : "descending");
        all("tr", body).map(function (row, index) { return [key(row, column), index, row]; })
          .sort(function (a, b) { return compare(a[0], b[0], up) || a[1] - b[1]; })
          .forEach(function (item) { body.appendChild(item[2]); });
      });
    });
  });
  all(".copy").forEach(function (block) {
    var button = document.createElement("button");
    button.type = "button";
    button.textContent = "Copy";
    function said(word) {
      button.textContent = word;
      setTimeout(function () { button.textContent = "Copy"; }, 1600);
    }
    button.addEventListener("click", function () {
      var code = block.querySelector("code");
      function mark() {
        getSelection().selectAllChildren(code);
        said(document.execCommand("copy") ? "Copied" : "Selected");
      }
      if (!navigator.clipboard) { mark(); return; }
      navigator.clipboard.writeText(code.textContent).then(function () { said("Copied"); }, mark);
    });
    block.appendChild(button);
  });
  var closed = [];
  addEventListener("beforeprint", function () {
    closed = all("details:not([open])");
    closed.forEach(function (one) { one.open = true; });
  });
  addEventListener("afterprint", function () {
    closed.forEach(function (one) { one.open = false; });
  });
  var links = all(".contents a");
  function here() {
    var current = null;
    links.forEach(function (link) {
      var place = document.getElementById(link.hash.slice(1));
      if (place && place.getBoundingClientRect().top < 140) { current = link; }
      link.removeAttribute("aria-current");
    });
    if (current) { current.setAttribute("aria-current", "true"); }
  }
  addEventListener("scroll", here, { passive: true });
  here();
})();
