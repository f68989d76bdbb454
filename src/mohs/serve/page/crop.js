// The part of a picture that is searched: a box drawn on it, or moved by four sliders, in percent of its sides.

const EDGES = ["left", "right", "top", "bottom"];
const LARGEST_SIDE = 2000;
const LARGEST_BYTES = 8 * 1024 * 1024;

const element = (id) => document.getElementById(id);
const WHOLE = { left: 0, right: 100, top: 0, bottom: 100 };
let part = { ...WHOLE };

function isWhole() {
  return EDGES.every((edge) => part[edge] === WHOLE[edge]);
}

function show() {
  const box = element("box");
  box.hidden = isWhole();
  box.style.left = `${part.left}%`;
  box.style.top = `${part.top}%`;
  box.style.width = `${part.right - part.left}%`;
  box.style.height = `${part.bottom - part.top}%`;
  for (const edge of EDGES) element(edge).value = String(part[edge]);
}

function set(wanted) {
  const [left, right] = [wanted.left, wanted.right].sort((a, b) => a - b);
  const [top, bottom] = [wanted.top, wanted.bottom].sort((a, b) => a - b);
  part = { left, right: Math.max(right, left + 1), top, bottom: Math.max(bottom, top + 1) };
  show();
}

export function wholePicture() {
  part = { ...WHOLE };
  show();
}

export function listen() {
  const frame = element("frame");
  let start = null;
  const at = (event) => {
    const box = element("shown").getBoundingClientRect();
    const percent = (value) => Math.round(100 * Math.min(1, Math.max(0, value)));
    return { x: percent((event.clientX - box.left) / box.width), y: percent((event.clientY - box.top) / box.height) };
  };
  frame.addEventListener("pointerdown", (event) => {
    if (element("edges").hidden || event.button !== 0) return;
    event.preventDefault();
    start = at(event);
    frame.setPointerCapture(event.pointerId);
  });
  frame.addEventListener("pointermove", (event) => {
    if (!start) return;
    const now = at(event);
    set({ left: start.x, right: now.x, top: start.y, bottom: now.y });
  });
  const end = (event) => {
    if (!start) return;
    const now = at(event);
    // A tap is no box.
    if (Math.abs(now.x - start.x) < 3 || Math.abs(now.y - start.y) < 3) wholePicture();
    start = null;
  };
  frame.addEventListener("pointerup", end);
  frame.addEventListener("pointercancel", end);
  for (const edge of EDGES) {
    element(edge).addEventListener("input", () => {
      const value = Object.fromEntries(EDGES.map((name) => [name, Number(element(name).value)]));
      // The edge that is moved gives way, not the other one.
      if (edge === "left") value.left = Math.min(value.left, value.right - 1);
      if (edge === "right") value.right = Math.max(value.right, value.left + 1);
      if (edge === "top") value.top = Math.min(value.top, value.bottom - 1);
      if (edge === "bottom") value.bottom = Math.max(value.bottom, value.top + 1);
      set(value);
    });
  }
  element("whole").addEventListener("click", wholePicture);
}

// The bytes to send: the file as it is, unless a part of it is asked for or it is too large.
export async function chosenPart(file) {
  const image = element("shown");
  const canDraw = image.naturalWidth > 0;
  if (!canDraw || (isWhole() && file.size <= LARGEST_BYTES)) return file;
  const x = (image.naturalWidth * part.left) / 100;
  const y = (image.naturalHeight * part.top) / 100;
  const width = (image.naturalWidth * (part.right - part.left)) / 100;
  const height = (image.naturalHeight * (part.bottom - part.top)) / 100;
  const scale = Math.min(1, LARGEST_SIDE / Math.max(width, height));
  const canvas = document.createElement("canvas");
  canvas.width = Math.max(1, Math.round(width * scale));
  canvas.height = Math.max(1, Math.round(height * scale));
  canvas.getContext("2d").drawImage(image, x, y, width, height, 0, 0, canvas.width, canvas.height);
  const kind = file.type === "image/jpeg" || file.size > LARGEST_BYTES ? "image/jpeg" : "image/png";
  return new Promise((resolve, reject) => {
    canvas.toBlob((blob) => (blob ? resolve(blob) : reject(new Error("The picture cannot be cut."))), kind, 0.95);
  });
}
