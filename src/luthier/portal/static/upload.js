// Uploads to the public API with progress. The browser streams a file from the disk: this script never reads it.

/** Sends one file; `onProgress` gets a share from 0 to 1. Resolves with the API's file, rejects with its message. */
export function upload(file, purpose, onProgress) {
  return new Promise((resolve, reject) => {
    const form = new FormData();
    form.append("purpose", purpose);  // first: the service checks it before it stores the bytes
    form.append("file", file, file.name);
    const request = new XMLHttpRequest();
    request.open("POST", `${document.body.dataset.api}/v1/files`);
    request.setRequestHeader("x-csrf-token", document.body.dataset.csrf);
    request.responseType = "json";
    request.upload.addEventListener("progress", (event) => { if (event.total) onProgress(event.loaded / event.total); });
    request.addEventListener("load", () => {
      if (request.status < 300) return resolve(request.response);
      const message = request.response?.error?.message ?? `The service answered with HTTP ${request.status}.`;
      return reject(new Error(request.status === 401 ? "Your session has ended. Reload the page and sign in." : message));
    });
    request.addEventListener("error", () => reject(new Error("The connection broke off. Try again.")));
    request.send(form);
  });
}

/** Makes an area of `upload_macros.html` work: `onDone(file)` gets each file that the service has stored. */
export function prepareArea(area, onDone) {
  const input = area.querySelector("input[type=file]"), list = area.querySelector(".uploads");
  const purpose = area.querySelector("[data-purpose]");
  area.hidden = false;

  async function take(files) {
    for (const file of files) await send(file);  // one at a time: all of them would share the same line
    input.value = "";
  }

  async function send(file) {
    const item = document.createElement("li"), name = document.createElement("span"), bar = document.createElement("progress");
    name.textContent = file.name;
    bar.max = 1;
    bar.setAttribute("aria-label", `Upload of ${file.name}`);
    item.append(name, bar);
    list.append(item);
    try {
      const made = await upload(file, purpose?.value ?? "fine-tune", (share) => { bar.value = share; });
      bar.remove();
      const link = document.createElement("a");
      link.href = `${document.body.dataset.base}/files/${made.id}`;
      link.textContent = file.name;
      name.replaceChildren(link, " is uploaded.");
      item.className = "good";
      onDone?.(made);
    } catch (error) {
      bar.remove();
      item.className = "problem";
      name.textContent = `${file.name} was not uploaded. ${error.message}`;
    }
  }

  input.addEventListener("change", () => take([...input.files]));
  for (const kind of ["dragenter", "dragover"]) {
    area.addEventListener(kind, (event) => { event.preventDefault(); area.classList.add("over"); });
  }
  for (const kind of ["dragleave", "drop"]) area.addEventListener(kind, () => area.classList.remove("over"));
  area.addEventListener("drop", (event) => { event.preventDefault(); take([...event.dataTransfer.files]); });
}
