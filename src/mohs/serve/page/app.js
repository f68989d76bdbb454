// The page: a picture comes in, is searched, and what is found is shown.

import { about, imageOf, searchById, searchByPicture, whyItem, whyPicture } from "/page/api.js";
import { chosenPart, listen as listenToCrop, wholePicture } from "/page/crop.js";
import { options, showColumns } from "/page/filters.js";
import { percent, showResults, showVerdict } from "/page/results.js";

const element = (id) => document.getElementById(id);

// What is asked: a file, or the id of an item; what was found; the curve of what to expect, and the chosen threshold.
const state = { file: null, id: null, found: null, curve: null, threshold: null, number: 0 };

function showPicture(address, alternative) {
  const image = element("shown");
  if (image.src.startsWith("blob:")) URL.revokeObjectURL(image.src);
  image.alt = alternative;
  image.src = address;
  element("query").hidden = false;
  element("no-preview").hidden = true;
  element("frame").hidden = false;
}

function takeFile(file) {
  if (!file) return;
  if (file.type && !file.type.startsWith("image/")) {
    element("problem").textContent = `${file.name} is no picture.`;
    return;
  }
  element("problem").textContent = "";
  Object.assign(state, { file, id: null });
  element("edges").hidden = false;
  wholePicture();
  showPicture(URL.createObjectURL(file), "Your picture");
  element("search").hidden = false;
  element("search").focus();
}

function takeItem(match) {
  Object.assign(state, { file: null, id: match.id });
  element("edges").hidden = true;
  element("search").hidden = true;
  wholePicture();
  showPicture(imageOf(match.id, true), `${match.class}, ${match.id}`);
  search();
}

async function search() {
  if (!state.file && state.id === null) return;
  const number = ++state.number;
  element("problem").textContent = "";
  element("results").setAttribute("aria-busy", "true");
  try {
    const id = state.id;
    const part = state.file && (await chosenPart(state.file));
    const found = part ? await searchByPicture(part, options()) : await searchById(id, options());
    // An answer that comes after a later question is not shown.
    if (number !== state.number) return;
    state.found = found;
    showResults(found, takeItem, (match) => (part ? whyPicture(part, match.id) : whyItem(id, match.id)));
    showVerdict(found, state.threshold);
  } catch (error) {
    if (number === state.number) element("problem").textContent = error.message;
  } finally {
    if (number === state.number) element("results").removeAttribute("aria-busy");
  }
}

function showExpected(i) {
  const { curve } = state;
  element("precision").textContent = percent(curve.precision[i]);
  element("recall").textContent = percent(curve.recall[i]);
  element("false-acceptance").textContent = percent(curve.false_acceptance[i]);
  const text = `distance below ${state.threshold.toFixed(3)}: ${percent(curve.precision[i])} right, ` +
    `${percent(curve.recall[i])} found`;
  element("slider").setAttribute("aria-valuetext", text);
}

function showThreshold(calibration) {
  if (!calibration || !calibration.curve) {
    state.threshold = calibration ? calibration.threshold_distance : null;
    return;
  }
  state.curve = calibration.curve;
  state.threshold = calibration.threshold_distance;
  const all = state.curve.threshold_distance;
  const nearest = all.reduce((best, each, i) => (each <= calibration.threshold_distance ? i : best), 0);
  const slider = element("slider");
  slider.max = String(all.length - 1);
  slider.value = String(nearest);
  slider.addEventListener("input", () => {
    state.threshold = all[Number(slider.value)];
    showExpected(Number(slider.value));
    if (state.found) showVerdict(state.found, state.threshold);
  });
  element("rests-on").textContent =
    `Measured on ${calibration.num_pictures.toLocaleString("en")} pictures that were held out.`;
  element("threshold").hidden = false;
  showExpected(nearest);
}

function listen() {
  for (const id of ["file", "camera"]) {
    element(id).addEventListener("change", (event) => {
      takeFile(event.target.files[0]);
      event.target.value = "";
    });
  }
  document.addEventListener("dragover", (event) => {
    event.preventDefault();
    element("drop").classList.add("over");
  });
  document.addEventListener("dragleave", () => element("drop").classList.remove("over"));
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    element("drop").classList.remove("over");
    takeFile(event.dataTransfer.files[0]);
  });
  document.addEventListener("paste", (event) => {
    const file = [...event.clipboardData.files].find((each) => each.type.startsWith("image/"));
    if (file) takeFile(file);
  });
  element("shown").addEventListener("error", () => {
    element("frame").hidden = true;
    element("edges").hidden = true;
    element("no-preview").hidden = false;
  });
  element("search").addEventListener("click", search);
  element("filter-form").addEventListener("submit", (event) => {
    event.preventDefault();
    search();
  });
  element("filter-form").addEventListener("reset", () => setTimeout(search));
  listenToCrop();
}

async function begin() {
  listen();
  try {
    const told = await about();
    element("about").textContent =
      `${told.num_items.toLocaleString("en")} items of ${told.num_classes.toLocaleString("en")} classes`;
    showColumns(told.columns);
    showThreshold(told.calibration);
  } catch (error) {
    element("problem").textContent = error.message;
  }
}

begin();
