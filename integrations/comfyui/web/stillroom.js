// On ComfyUI's page: a link to each saved image below the node, by its signed URL.

import { app } from "../../scripts/app.js";

const WIDGET = "stillroom_links";

/** A list of links; a URL that is none of the web's is shown as text alone. */
function listed(images) {
  const list = document.createElement("div");
  list.style.cssText = "overflow:auto;font-size:12px;line-height:1.5";
  for (const { path, url } of images) {
    const link = document.createElement("a");
    link.textContent = path;
    link.title = "opens without a token, for a day";
    link.style.cssText = "display:block;color:inherit;overflow-wrap:anywhere";
    if (/^https?:/.test(url)) {
      link.href = url;
      link.target = "_blank";
      link.rel = "noopener noreferrer";
    }
    list.append(link);
  }
  return list;
}

app.registerExtension({
  name: "stillroom.links",
  beforeRegisterNodeDef(type, { name }) {
    if (name !== "StillroomSaveImage") return;
    const before = type.prototype.onExecuted;
    type.prototype.onExecuted = function onExecuted(output, ...more) {
      before?.call(this, output, ...more);
      if (!output?.stillroom) return;
      this.stillroomLinks ??= document.createElement("div");
      this.stillroomLinks.replaceChildren(listed(output.stillroom));
      if (!this.widgets?.some((one) => one.name === WIDGET)) {
        this.addDOMWidget(WIDGET, "links", this.stillroomLinks, {
          serialize: false, // they expire, and a workflow is handed on
          getMinHeight: () => 40,
          getMaxHeight: () => 120,
        });
      }
    };
  },
});
