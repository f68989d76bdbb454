// Filters: a row of fields for each column of the table, and the expression that they make.

const APART = ["id", "file", "role"];
const element = (id) => document.getElementById(id);

function field(name, hint, kind) {
  const label = document.createElement("label");
  label.append(`${name} ${hint} `);
  const input = document.createElement("input");
  input.type = kind;
  if (kind === "number") input.step = "any";
  input.dataset.column = name;
  input.dataset.hint = hint;
  label.append(input);
  return label;
}

function choice(name) {
  const label = document.createElement("label");
  label.append(`${name} `);
  const select = document.createElement("select");
  select.dataset.column = name;
  select.dataset.hint = "is";
  for (const [value, text] of [["", "either"], ["true", "yes"], ["false", "no"]]) {
    select.append(new Option(text, value));
  }
  label.append(select);
  return label;
}

export function showColumns(columns) {
  const rows = columns
    .filter((column) => !APART.includes(column.name) && column.kind !== "other")
    .map((column) => {
      const row = document.createElement("div");
      row.className = "column";
      if (column.kind === "number") {
        row.append(field(column.name, "from", "number"), field(column.name, "to", "number"));
      } else if (column.kind === "text") {
        row.append(field(column.name, "contains", "text"));
      } else {
        row.append(choice(column.name));
      }
      return row;
    });
  element("columns").replaceChildren(...rows);
}

export function where() {
  const parts = [];
  for (const input of element("columns").querySelectorAll("[data-column]")) {
    const value = input.value.trim();
    if (!value) continue;
    const name = "`" + input.dataset.column + "`";
    const quoted = value.replaceAll("'", "''");
    if (input.dataset.hint === "from") parts.push(`${name} >= ${value}`);
    if (input.dataset.hint === "to") parts.push(`${name} <= ${value}`);
    if (input.dataset.hint === "contains") parts.push(`${name} ILIKE '%${quoted}%'`);
    if (input.dataset.hint === "is") parts.push(`${name} = ${value}`);
  }
  return parts.join(" AND ");
}

export function options() {
  return {
    where: where(),
    oneOfAClass: element("one-of-a-class").checked,
    top: Number(element("num").value),
  };
}
