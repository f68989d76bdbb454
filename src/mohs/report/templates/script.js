"use strict";
// Tables sort by a click on a heading. Without scripts the page is complete all the same.
for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0];
  const number = (text) => { const found = text.replace(/,/g, "").match(/-?\d+(\.\d+)?/); return found ? Number(found[0]) : NaN; };
  Array.from(table.tHead.rows[0].cells).forEach((cell, column) => {
    if (body.rows.length < 2 || !cell.textContent.trim()) return;
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = cell.textContent;
    cell.replaceChildren(button);
    button.addEventListener("click", () => {
      const descending = cell.getAttribute("aria-sort") !== "descending";
      for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
      cell.setAttribute("aria-sort", descending ? "descending" : "ascending");
      const value = (row) => row.cells[column].textContent.trim();
      const rows = Array.from(body.rows).sort((a, b) => {
        const [x, y] = [number(value(a)), number(value(b))];
        return Number.isNaN(x) || Number.isNaN(y) ? value(a).localeCompare(value(b)) : x - y;
      });
      if (descending) rows.reverse();
      body.append(...rows);
    });
  });
}
// On paper nothing can be opened: what is closed is printed, too.
let closed = [];
addEventListener("beforeprint", () => {
  closed = Array.from(document.querySelectorAll("details:not([open])"));
  for (const part of closed) part.open = true;
});
addEventListener("afterprint", () => { for (const part of closed) part.open = false; });
// The map shows one class when its name is typed.
const find = document.getElementById("map-find");
if (find) {
  const points = Array.from(document.querySelectorAll("svg.map g"));
  find.addEventListener("input", () => {
    const wanted = find.value.trim();
    let shown = 0;
    for (const point of points) {
      const is = wanted === "" || point.dataset.label === wanted;
      shown += is;
      point.classList.toggle("dim", !is);
    }
    document.getElementById("map-found").textContent = wanted === "" ? "" : `${shown} of ${points.length} pictures`;
  });
}
// A table can be saved as CSV: one button below each.
for (const table of document.querySelectorAll("table[data-name]")) {
  const cells = (row) => Array.from(row.cells, (cell) => `"${cell.textContent.trim().replace(/"/g, '""')}"`).join(",");
  const link = document.createElement("a");
  link.className = "save";
  link.textContent = "Save as CSV";
  link.setAttribute("aria-label", `Save as CSV: ${table.dataset.name}`);
  link.download = `${table.dataset.name.toLowerCase().replace(/[^a-z0-9]+/g, "-")}.csv`;
  link.href = `data:text/csv;charset=utf-8,${encodeURIComponent(Array.from(table.rows, cells).join("\r\n"))}`;
  table.parentElement.after(link);
}
// A figure can be saved as SVG or PNG: with the colours that it has on the page, which are variables there.
const kept = ["color", "fill", "fill-opacity", "stroke", "stroke-width", "stroke-opacity", "stroke-dasharray", "opacity", "font-family", "font-size", "font-weight", "text-anchor"];
const drawing = (svg) => {
  const copy = svg.cloneNode(true);
  const copies = [copy, ...copy.querySelectorAll("*")];
  [svg, ...svg.querySelectorAll("*")].forEach((one, i) => {
    const style = getComputedStyle(one);
    for (const name of kept) copies[i].style.setProperty(name, style.getPropertyValue(name));
  });
  const box = svg.viewBox.baseVal;
  copy.setAttribute("width", box.width);
  copy.setAttribute("height", box.height);
  copy.style.setProperty("background", getComputedStyle(document.body).backgroundColor);
  return { address: `data:image/svg+xml;charset=utf-8,${encodeURIComponent(new XMLSerializer().serializeToString(copy))}`, box };
};
const save = (address, name) => Object.assign(document.createElement("a"), { href: address, download: name }).click();
for (const svg of document.querySelectorAll("svg.plot")) {
  const what = svg.closest("figure").querySelector("h3").textContent;
  const name = what.toLowerCase().replace(/[^a-z0-9]+/g, "-");
  const bar = document.createElement("div");
  bar.className = "save";
  const ways = {
    SVG: () => save(drawing(svg).address, `${name}.svg`),
    PNG: () => {
      const { address, box } = drawing(svg);
      const image = new Image();
      image.onload = () => {
        const canvas = Object.assign(document.createElement("canvas"), { width: 3 * box.width, height: 3 * box.height });
        const context = canvas.getContext("2d");
        context.fillStyle = getComputedStyle(document.body).backgroundColor;
        context.fillRect(0, 0, canvas.width, canvas.height);
        context.drawImage(image, 0, 0, canvas.width, canvas.height);
        save(canvas.toDataURL("image/png"), `${name}.png`);
      };
      image.src = address;
    },
  };
  for (const [kind, act] of Object.entries(ways)) {
    const button = Object.assign(document.createElement("button"), { type: "button", textContent: `Save as ${kind}` });
    button.setAttribute("aria-label", `Save as ${kind}: ${what}`);
    button.addEventListener("click", act);
    bar.append(button);
  }
  svg.closest("figure").append(bar);
}
