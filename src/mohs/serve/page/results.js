// What was found, as a list; text is always set as text, never as HTML.

import { showAlike } from "/page/alike.js";
import { imageOf, tell } from "/page/api.js";

const APART = ["file", "role"];
const element = (id) => document.getElementById(id);

function make(tag, text, className) {
  const made = document.createElement(tag);
  if (text !== undefined) made.textContent = text;
  if (className) made.className = className;
  return made;
}

export function percent(share) {
  return share === null || share === undefined ? "–" : `${Math.round(100 * share)}%`;
}

function facts(match) {
  const list = make("dl", undefined, "facts");
  for (const [name, cell] of Object.entries(match.columns)) {
    if (APART.includes(name) || name === "id" || name === "class" || cell === null) continue;
    const row = make("div");
    row.append(make("dt", name), make("dd", String(cell)));
    list.append(row);
  }
  return list;
}

function feedback(found, match) {
  const group = make("div", undefined, "feedback");
  group.setAttribute("role", "group");
  group.setAttribute("aria-label", `Feedback on ${match.id}`);
  const told = make("span", "", "told");
  told.setAttribute("role", "status");
  const buttons = [["same", "Same thing"], ["different", "Not a match"]].map(([verdict, text]) => {
    const button = make("button", text);
    button.type = "button";
    button.setAttribute("aria-pressed", "false");
    button.addEventListener("click", async () => {
      try {
        await tell(found.query, match, verdict);
        for (const other of buttons) other.setAttribute("aria-pressed", String(other === button));
        told.textContent = "Kept.";
      } catch (error) {
        told.textContent = error.message;
      }
    });
    return button;
  });
  group.append(...buttons, told);
  return group;
}

function why(match, onWhy) {
  const details = make("details", undefined, "why");
  const place = make("div", undefined, "maps");
  place.setAttribute("aria-live", "polite");
  details.append(make("summary", "Why alike?"), place);
  details.addEventListener("toggle", async () => {
    if (!details.open || place.children.length) return;
    place.textContent = "Looking …";
    try {
      showAlike(place, await onWhy(match));
    } catch (error) {
      place.textContent = error.message;
    }
  });
  return details;
}

function card(found, match, onSearchFrom, onWhy) {
  const item = make("li");
  item.dataset.id = match.id;
  item.dataset.distance = String(match.distance);
  const open = make("button", undefined, "picture");
  open.type = "button";
  open.setAttribute("aria-label", `Search from ${match.class}, ${match.id}`);
  const image = make("img");
  image.src = imageOf(match.id);
  image.alt = "";
  image.width = image.height = 96;
  image.loading = "lazy";
  open.append(image);
  open.addEventListener("click", () => onSearchFrom(match));
  const text = make("div", undefined, "text");
  const numbers = [match.probability === null ? null : `${percent(match.probability)} probable`];
  numbers.push(`distance ${match.distance.toFixed(3)}`);
  text.append(
    make("h3", match.class),
    make("p", match.id, "muted id"),
    make("p", numbers.filter(Boolean).join(", ")),
    make("p", "Too far", "far"),
    facts(match),
    feedback(found, match),
    why(match, onWhy),
  );
  item.append(open, text);
  return item;
}

export function showResults(found, onSearchFrom, onWhy) {
  element("results").replaceChildren(...found.matches.map((match) => card(found, match, onSearchFrom, onWhy)));
}

// Say what the answer is at a threshold; null: the index is not calibrated.
export function showVerdict(found, threshold) {
  for (const item of element("results").children) {
    item.classList.toggle("is-far", threshold !== null && Number(item.dataset.distance) >= threshold);
  }
  const verdict = element("verdict");
  const nearest = found.matches[0];
  const isUnknown = nearest && threshold !== null && nearest.distance >= threshold;
  verdict.classList.toggle("unknown", Boolean(!nearest || isUnknown));
  if (!nearest) {
    verdict.textContent = "Nothing: no item passes the filters.";
  } else if (isUnknown) {
    verdict.textContent = "Unknown: nothing here is near enough. These are the nearest all the same.";
  } else {
    const sure = nearest.probability === null ? "" : ` (${percent(nearest.probability)} probable)`;
    verdict.textContent = `${nearest.class}${sure}`;
  }
}
