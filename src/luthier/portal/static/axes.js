// The tools above a page's charts: axis, smoothing, logarithm. Their state is in the URL, so a view is a link.
const NAMES = ["x", "smooth", "log"];

/** Reads the tools from the URL, and calls `changed({axis, weight, log})` now and whenever one is moved. */
export function connectTools(form, changed) {
  const url = new URL(location.href);
  for (const name of NAMES) {
    const input = form.elements[name];
    const value = url.searchParams.get(name);
    if (value === null) continue;
    if (input.type === "checkbox") input.checked = value === "1";
    else input.value = value;
  }
  const read = () => ({ axis: form.elements.x.value, weight: Number(form.elements.smooth.value), log: form.elements.log.checked });
  form.addEventListener("input", () => {
    remember(form);
    changed(read());
  });
  form.addEventListener("submit", (event) => event.preventDefault());
  return read();
}

function remember(form) {
  const url = new URL(location.href);
  for (const name of NAMES) {
    const input = form.elements[name];
    const value = input.type === "checkbox" ? (input.checked ? "1" : "") : input.value;
    if (!value || value === "0" || value === "step") url.searchParams.delete(name);
    else url.searchParams.set(name, value);
  }
  history.replaceState(null, "", url);
}
