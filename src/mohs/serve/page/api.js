// What the page asks of the service. Every failure becomes an Error with one line for a person.

export async function ask(address, options) {
  let answer;
  try {
    answer = await fetch(address, options);
  } catch {
    throw new Error("The service does not answer. Try again.");
  }
  let said;
  try {
    said = await answer.json();
  } catch {
    said = {};
  }
  if (!answer.ok) {
    throw new Error(said.detail || `The service answered ${answer.status}. Try again.`);
  }
  return said;
}

function parameters(options) {
  const words = new URLSearchParams({ top: String(options.top) });
  if (options.where) words.set("where", options.where);
  if (options.oneOfAClass) words.set("one_of_a_class", "true");
  return words;
}

export function about() {
  return ask("/about");
}

export function searchByPicture(blob, options) {
  const form = new FormData();
  form.append("picture", blob, "picture");
  return ask(`/search?${parameters(options)}`, { method: "POST", body: form });
}

export function searchById(id, options) {
  const words = parameters(options);
  words.set("id", id);
  return ask(`/search?${words}`);
}

export function imageOf(id, large = false) {
  return `/items/${encodeURIComponent(id)}/image${large ? "?large=true" : ""}`;
}

export function whyPicture(blob, id) {
  const form = new FormData();
  form.append("picture", blob, "picture");
  return ask(`/alike?${new URLSearchParams({ item: id })}`, { method: "POST", body: form });
}

export function whyItem(query, id) {
  return ask(`/alike?${new URLSearchParams({ query, item: id })}`);
}

export function tell(query, match, verdict) {
  const said = { query, item: match.id, verdict, distance: match.distance };
  return ask("/feedback", {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(said),
  });
}
