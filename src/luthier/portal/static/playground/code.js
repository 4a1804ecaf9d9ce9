// A request as code, exactly as it was sent.
const CALL = "client.chat.completions.create";

/** The code of a kind: openai, azure, curl or javascript. `root` is the service's address without a slash at its end. */
export function codeOf(kind, body, root, isDeployment) {
  switch (kind) {
    case "azure": return azure(body, root, isDeployment);
    case "curl": return curl(body, root);
    case "javascript": return javascript(body, root);
    default: return python(body, "OpenAI", `base_url=${quoted(`${root}/v1`)}, api_key=os.environ["OPENAI_API_KEY"]`);
  }
}

function azure(body, root, isDeployment) {
  const client = `azure_endpoint=${quoted(root)}, api_key=os.environ["AZURE_OPENAI_API_KEY"], api_version="2024-10-21"`;
  const note = "# AzureOpenAI reaches deployments alone: deploy this model, and name its deployment as model.\n";
  return (isDeployment ? "" : note) + python(body, "AzureOpenAI", client);
}

function python(body, name, client) {
  const fields = Object.entries(body).map(([field, value]) => `    ${field}=${pythonValue(value, "    ")},\n`).join("");
  return `import os

from openai import ${name}

client = ${name}(${client})
stream = ${CALL}(
${fields})
for chunk in stream:
    if chunk.choices:
        print(chunk.choices[0].delta.content or "", end="", flush=True)
`;
}

/** A value as Python writes it, one item a line. JSON's strings are Python's as well. */
export function pythonValue(value, indent) {
  if (value === null) return "None";
  if (typeof value === "boolean") return value ? "True" : "False";
  if (typeof value !== "object") return JSON.stringify(value);
  const inner = `${indent}    `;
  const isList = Array.isArray(value);
  const items = isList
    ? value.map((item) => `${inner}${pythonValue(item, inner)},\n`)
    : Object.entries(value).map(([key, item]) => `${inner}${quoted(key)}: ${pythonValue(item, inner)},\n`);
  const [open, close] = isList ? "[]" : "{}";
  return items.length ? `${open}\n${items.join("")}${indent}${close}` : open + close;
}

function curl(body, root) {
  const data = JSON.stringify(body, null, 2).replaceAll("'", "'\\''");
  return `curl --no-buffer '${root}/v1/chat/completions' \\
  -H "Authorization: Bearer $OPENAI_API_KEY" \\
  -H "Content-Type: application/json" \\
  -d '${data}'
`;
}

function javascript(body, root) {
  return `import OpenAI from "openai";

const client = new OpenAI({ baseURL: ${quoted(`${root}/v1`)}, apiKey: process.env.OPENAI_API_KEY });
const stream = await ${CALL}(${JSON.stringify(body, null, 2)});
for await (const chunk of stream) process.stdout.write(chunk.choices[0]?.delta?.content ?? "");
`;
}

function quoted(text) { return JSON.stringify(text); }
