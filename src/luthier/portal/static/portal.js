// What every page does: live parts, times in the visitor's zone, copy buttons. A page without it reads as well.
const zone = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });

/** Gives each element below `root` what the script adds to it. Called again for every part that is replaced. */
export function enhance(root) {
  for (const time of root.querySelectorAll("time[datetime]:not([title])")) {
    const at = new Date(time.dateTime);
    time.title = time.textContent;
    time.textContent = zone.format(at);
  }
  for (const block of root.querySelectorAll("[data-copy]:not([data-ready])")) addCopyButton(block);
}

/** Calls the public API with the session; a change carries the session's CSRF token. Rejects with the API's message. */
export async function api(path, options = {}) {
  const headers = { ...options.headers };
  if ((options.method ?? "GET") !== "GET") headers["x-csrf-token"] = document.body.dataset.csrf;
  const response = await fetch(document.body.dataset.api + path, { ...options, headers });
  if (!response.ok) throw await asError(response);
  return response;
}

async function asError(response) {
  const id = response.headers.get("x-request-id");
  let message = `The service answered with HTTP ${response.status}.`;
  try { message = (await response.json()).error.message; } catch { /* no JSON: the status tells it */ }
  return Object.assign(new Error(message), { status: response.status, requestId: id });
}

function addCopyButton(block) {
  block.dataset.ready = "";
  if (!navigator.clipboard) return;
  const button = document.createElement("button");
  button.type = "button";
  button.className = "copy";
  button.textContent = "Copy";
  button.addEventListener("click", async () => {
    await navigator.clipboard.writeText(block.querySelector("code").textContent);
    button.textContent = "Copied";
    setTimeout(() => { button.textContent = "Copy"; }, 1500);
  });
  block.append(button);
}

/** Polls one part while the tab is visible: 304 costs nothing, a 200 replaces its content, data-ended stops it. */
function keepLive(part) {
  const every = Number(part.dataset.every ?? 2000);
  let etag = "", failures = 0, timer = 0;

  async function poll() {
    timer = 0;
    if (document.hidden) return;
    try {
      const headers = { "x-portal-fragment": "1", ...(etag && { "if-none-match": etag }) };
      const response = await fetch(part.dataset.live, { headers, cache: "no-store" });
      if (response.status === 401) return location.reload();
      if (response.status === 404) return undefined;
      failures = response.ok || response.status === 304 ? 0 : failures + 1;
      if (response.ok) {
        etag = response.headers.get("etag") ?? "";
        replace(part, await response.text());
      }
    } catch { failures += 1; }
    document.getElementById("connection").hidden = failures < 2;
    if (!part.querySelector("[data-ended]")) plan(every * Math.min(2 ** failures, 15));
    return undefined;
  }

  function plan(delay) { if (!timer && part.isConnected) timer = setTimeout(poll, delay); }

  document.addEventListener("visibilitychange", () => { if (!document.hidden) plan(0); });
  plan(every);
}

/** Puts new HTML into a part, and keeps the focus, the checked boxes, the open details and the scroll position. */
function replace(part, html) {
  const focused = part.contains(document.activeElement) ? document.activeElement.id : "";
  const checked = [...part.querySelectorAll("input:checked[id]")].map((input) => input.id);
  const open = [...part.querySelectorAll("details[open][id]")].map((one) => one.id);
  if (part.querySelector(".confirm[open]")) return;  // a question is being answered
  const scrolls = [...part.querySelectorAll("[data-keep-scroll]")].map((one) => one.scrollTop);
  part.innerHTML = html;
  for (const id of checked) { const input = document.getElementById(id); if (input) input.checked = true; }
  for (const id of open) { const one = document.getElementById(id); if (one) one.open = true; }
  part.querySelectorAll("[data-keep-scroll]").forEach((one, index) => { one.scrollTop = scrolls[index] ?? 0; });
  if (focused) document.getElementById(focused)?.focus();
  enhance(part);
  part.dispatchEvent(new CustomEvent("refreshed", { bubbles: true }));
}

/** A notice belongs to the change before: reloading the page, or sending its address, should not repeat it. */
function forgetNotice() {
  const url = new URL(location.href);
  if (!url.searchParams.has("notice")) return;
  url.searchParams.delete("notice");
  history.replaceState(history.state, "", url);
}

enhance(document);
forgetNotice();
document.querySelector(".bar [aria-current]")?.scrollIntoView({ block: "nearest", inline: "nearest" });
for (const part of document.querySelectorAll("[data-live]")) keepLive(part);
