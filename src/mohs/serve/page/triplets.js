// The triplets of a run: walked through in an order, and marked where a negative is none.

import { ask } from "/page/api.js";

const NUM = 12;
const PARTS = ["anchor", "positive", "negative"];
const element = (id) => document.getElementById(id);

// Where the walk stands, how many triplets there are of the class that is shown, and the number of the question.
const state = { start: 0, num: 0, order: "time", label: "", number: 0 };

function make(tag, text, className) {
  const made = document.createElement(tag);
  if (text !== undefined) made.textContent = text;
  if (className) made.className = className;
  return made;
}

function pictureOf(part, large = false) {
  return `/pictures/${part.item}${large ? "?large=true" : ""}`;
}

function image(part, name, large) {
  const made = make("img");
  made.src = pictureOf(part, large);
  made.alt = `${name}: ${part.class}, ${part.file}`;
  made.loading = "lazy";
  return made;
}

function nameOf(triplet, name) {
  return name === "positive" && triplet.positive_origin === "augmentation" ? "positive, the anchor augmented" : name;
}

function showLarge(triplet) {
  const figures = PARTS.map((name) => {
    const figure = make("figure");
    figure.append(
      image(triplet[name], nameOf(triplet, name), true),
      make("figcaption", `${nameOf(triplet, name)}: ${triplet[name].class}, ${triplet[name].file}`),
    );
    return figure;
  });
  element("large-title").textContent = `Triplet ${(triplet.triplet + 1).toLocaleString("en")}`;
  element("large-pictures").replaceChildren(...figures);
  element("large").showModal();
}

function figureOf(triplet, name) {
  const part = triplet[name];
  const figure = make("figure");
  const open = make("button");
  open.type = "button";
  open.append(image(part, nameOf(triplet, name), false));
  open.addEventListener("click", () => showLarge(triplet));
  const caption = make("figcaption");
  caption.append(make("strong", nameOf(triplet, name)), make("span", part.class));
  if (name !== "anchor") {
    const distance = triplet[`anchor_${name}_distance`];
    caption.append(make("div", `distance ${distance.toFixed(3)}`, "distance"));
  }
  if (name === "negative" && triplet.anchor_negative_distance < triplet.anchor_positive_distance) {
    figure.className = "nearer";
    caption.append(make("div", "nearer than the positive", "distance"));
  }
  figure.append(open, caption);
  return figure;
}

function activityOf(triplet) {
  const said = [];
  if (triplet.active_when_mined !== null) {
    said.push(triplet.active_when_mined ? "active when it was mined" : "not active when it was mined");
  }
  if (triplet.batch_active_fraction !== null) {
    said.push(`${Math.round(100 * triplet.batch_active_fraction)}% of its batch active in training`);
  }
  return said.length ? said.join(", ") : "no record of activity";
}

function pairOf(triplet) {
  return JSON.stringify([triplet.anchor.file, triplet.negative.file].sort());
}

function showVerdict(button, verdict) {
  button.setAttribute("aria-pressed", String(verdict === "same"));
}

function marking(triplet) {
  const group = make("div", undefined, "feedback");
  const told = make("span", "", "told");
  told.setAttribute("role", "status");
  const button = make("button", "Really the same thing");
  button.type = "button";
  button.dataset.pair = pairOf(triplet);
  button.setAttribute("aria-label", `Really the same thing: ${triplet.anchor.file} and ${triplet.negative.file}`);
  showVerdict(button, triplet.verdict);
  button.addEventListener("click", async () => {
    const verdict = button.getAttribute("aria-pressed") === "true" ? "different" : "same";
    try {
      await ask("/feedback", {
        method: "POST",
        headers: { "content-type": "application/json" },
        body: JSON.stringify({ triplet: triplet.triplet, verdict }),
      });
      // The pair may be in several triplets.
      for (const other of element("triplets").querySelectorAll("[data-pair]")) {
        if (other.dataset.pair === button.dataset.pair) showVerdict(other, verdict);
      }
      told.textContent = verdict === "same" ? "Kept in the review list." : "Taken back: it stays a negative.";
    } catch (error) {
      told.textContent = error.message;
    }
  });
  group.append(button, told);
  return group;
}

function card(triplet) {
  const item = make("li");
  item.dataset.triplet = String(triplet.triplet);
  const three = make("div", undefined, "three");
  three.append(...PARTS.map((name) => figureOf(triplet, name)));
  const number = (triplet.triplet + 1).toLocaleString("en");
  item.append(
    make("h3", `Triplet ${number}, plan ${triplet.segment + 1}`),
    three,
    make("p", `hardness asked ${triplet.asked_hardness.toFixed(2)}, achieved ${triplet.achieved_hardness.toFixed(2)}`),
    make("p", activityOf(triplet), "muted"),
    marking(triplet),
  );
  return item;
}

function showPlace(found) {
  state.num = found.num_triplets;
  const last = Math.max(0, found.num_triplets - 1);
  const shown = found.triplets.length;
  const [first, end] = [found.start + 1, found.start + shown].map((value) => value.toLocaleString("en"));
  const all = found.num_triplets.toLocaleString("en");
  const of = state.label ? ` of class ${state.label}` : "";
  element("where").textContent = shown ? `${first} to ${end} of ${all} triplets${of}` : `No triplets${of}.`;
  element("place").hidden = found.num_triplets <= NUM;
  const slider = element("slider");
  slider.max = String(last);
  slider.step = String(Math.max(1, Math.floor(found.num_triplets / 1000)));
  slider.value = String(found.start);
  slider.setAttribute("aria-valuetext", `triplet ${first} of ${all}`);
  element("previous").disabled = found.start === 0;
  element("next").disabled = found.start + shown >= found.num_triplets;
}

async function show(start) {
  const number = ++state.number;
  const words = new URLSearchParams({ order: state.order, start: String(Math.max(0, start)), num: String(NUM) });
  if (state.label) words.set("class", state.label);
  element("problem").textContent = "";
  element("triplets").setAttribute("aria-busy", "true");
  try {
    const found = await ask(`/triplets?${words}`);
    // An answer that comes after a later question is not shown.
    if (number !== state.number) return;
    state.start = found.start;
    element("triplets").replaceChildren(...found.triplets.map(card));
    showPlace(found);
  } catch (error) {
    if (number === state.number) element("problem").textContent = error.message;
  } finally {
    if (number === state.number) element("triplets").removeAttribute("aria-busy");
  }
}

async function suggest() {
  try {
    const names = await ask(`/classes?${new URLSearchParams({ contains: element("class").value })}`);
    element("classes").replaceChildren(...names.map((name) => new Option(name, name)));
  } catch {
    // Without suggestions a name can still be written.
  }
}

function tell(run) {
  const count = (value) => value.toLocaleString("en");
  element("about").textContent =
    `${run.name}: ${count(run.num_triplets)} triplets of ${count(run.num_items)} pictures of ` +
    `${count(run.num_classes)} classes. Loss ${run.loss}: ${run.meaning}. Hardness on the scale ${run.scale}. ` +
    "Distances are of when the triplet was mined.";
  element("negatives").textContent = run.in_batch
    ? "This loss takes other negatives than the plan's: those of the batch, or of classes. The negative shown was mined " +
      "to decide who meets whom."
    : "The negative shown is the one that was trained on.";
  element("activity").textContent =
    "Training records which share of a batch was active, not which triplets." +
    (run.distances_tell_active ? " Whether one was active when it was mined follows from its distances and the margin." : "");
  element("note").textContent = run.note;
}

function listen() {
  element("which").addEventListener("submit", (event) => {
    event.preventDefault();
    state.order = element("order").value;
    state.label = element("class").value;
    show(0);
  });
  element("order").addEventListener("change", () => element("which").requestSubmit());
  element("class").addEventListener("input", suggest);
  element("previous").addEventListener("click", () => show(state.start - NUM));
  element("next").addEventListener("click", () => show(state.start + NUM));
  element("slider").addEventListener("change", () => show(Number(element("slider").value)));
}

async function begin() {
  listen();
  suggest();
  show(0);
  try {
    tell(await ask("/about"));
  } catch (error) {
    element("problem").textContent = error.message;
  }
}

begin();
