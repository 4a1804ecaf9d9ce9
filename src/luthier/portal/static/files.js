// The list of files: uploads. The table below polls, so a new file appears in it by itself.
import { prepareArea } from "./upload.js";

for (const area of document.querySelectorAll("[data-upload]")) prepareArea(area);
