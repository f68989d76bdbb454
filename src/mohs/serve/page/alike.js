// Why two pictures are alike: both, with what counts laid over them, and a test of whether the map holds.

const SIDE = 160;

function map(side, name) {
  const figure = document.createElement("figure");
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = SIDE;
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", `${name}: ${where(side.cost)}`);
  const caption = document.createElement("figcaption");
  caption.textContent =
    `${name}. Hiding the marked tenth costs ${side.marked_cost.toFixed(2)} similarity, ` +
    `a random tenth ${side.random_cost.toFixed(2)}.` +
    (side.marked_cost > side.random_cost ? "" : " So this map says nothing.");
  figure.append(canvas, caption);
  const picture = new Image();
  picture.addEventListener("load", () => draw(canvas, picture, side.cost));
  picture.src = side.picture;
  return figure;
}

function draw(canvas, picture, cost) {
  const context = canvas.getContext("2d");
  context.drawImage(picture, 0, 0, SIDE, SIDE);
  const largest = Math.max(...cost.flat(), 1e-9);
  const cell = SIDE / cost.length;
  cost.forEach((row, y) => row.forEach((value, x) => {
    // What does not count is darkened, so that colours stay what they are.
    context.fillStyle = `rgba(0, 0, 0, ${0.75 * (1 - Math.max(0, value) / largest)})`;
    context.fillRect(x * cell, y * cell, cell, cell);
  }));
}

// The place of what counts most, in words.
function where(cost) {
  let [best, row, column] = [-Infinity, 0, 0];
  cost.forEach((values, y) => values.forEach((value, x) => {
    if (value > best) [best, row, column] = [value, y, x];
  }));
  const third = (i) => Math.min(2, Math.floor((3 * i) / cost.length));
  const place = `${["top", "middle", "bottom"][third(row)]} ${["left", "centre", "right"][third(column)]}`;
  return `what counts most is at the ${place}`;
}

export function showAlike(place, told) {
  place.replaceChildren(map(told.query, "Your picture"), map(told.item, "This item"));
}
