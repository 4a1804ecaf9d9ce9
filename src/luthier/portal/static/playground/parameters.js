// The form of models and parameters: what is sent, and its place in the page's address.
const NUMBERS = ["temperature", "top_p", "max_tokens", "seed", "frequency_penalty", "presence_penalty"];
const form = document.getElementById("choices");
const schema = document.getElementById("schema");

/** The fields of a request, those that are empty left out. Null after the form has shown what is wrong. */
export function read() {
  schema.setCustomValidity(schemaProblem(schema.value.trim()));
  if (!form.checkValidity()) {
    document.getElementById("parameters").open = true;
    form.reportValidity();
    return null;
  }
  const body = {};
  for (const name of NUMBERS) {
    if (form.elements[name].value !== "") body[name] = Number(form.elements[name].value);
  }
  const stop = form.elements.stop.value.replaceAll("\\n", "\n").replaceAll("\\t", "\t");
  if (stop) body.stop = stop;
  if (form.elements.logprobs.checked) body.logprobs = true;
  if (schema.value.trim()) {
    body.response_format = { type: "json_schema", json_schema: { name: "answer", schema: JSON.parse(schema.value) } };
  }
  return body;
}

/** What is wrong with a schema's text; empty for a good one and for none. */
function schemaProblem(text) {
  if (!text) return "";
  try {
    const value = JSON.parse(text);
    return value && typeof value === "object" && !Array.isArray(value) ? "" : "A schema is a JSON object: {\"type\": …}.";
  } catch (error) { return `This is no JSON: ${error.message}`; }
}

/** The page's address with what is chosen now. */
export function address() {
  const query = new URLSearchParams();
  for (const [name, value] of new FormData(form)) {
    if (value || name === "max_tokens") query.append(name, value);
  }
  return `${location.pathname}?${query}`;
}

/** Keeps the page's address equal to what is chosen; `chosen(address)` is called for another choice of models. */
export function follow(chosen) {
  document.getElementById("show").hidden = true; // a choice is shown at once
  for (const input of form.elements) {
    if (!input.name) continue;
    input.addEventListener("change", () => {
      history.replaceState(null, "", address());
      tell();
      if (input.name === "model") chosen(address());
    });
  }
  schema.addEventListener("input", () => {
    schema.setCustomValidity("");
    tell();
  });
  form.addEventListener("submit", (event) => event.preventDefault());
  tell();
}

/** Says which parameters are set, for when their part of the page is closed. */
function tell() {
  const set = [...form.elements].filter((input) => input.name !== "model" && input.type !== "checkbox" && input.value);
  const words = set.map((input) => (input === schema ? "JSON schema" : `${input.name.replaceAll("_", " ")} ${input.value}`));
  if (form.elements.logprobs.checked) words.push("token probabilities");
  document.getElementById("parameters-told").textContent = words.join(" · ");
}
