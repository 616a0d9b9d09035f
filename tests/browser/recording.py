"""Record a canvas with Chromium's own `MediaRecorder`: `python -m browser.recording` in `tests`."""

import base64
import sys
from pathlib import Path

from playwright.sync_api import Page

from browser.chromium import chromium

TYPES = {"webm": "video/webm;codecs=vp9", "mp4": "video/mp4;codecs=vp9"}

_RECORD = """
async ({ type, width, height, ms }) => {
  const canvas = document.createElement("canvas");
  Object.assign(canvas, { width, height });
  const context = canvas.getContext("2d", { alpha: false });
  const draw = () => {
    const part = (performance.now() - began) / ms;
    context.fillStyle = `hsl(${360 * part} 60% 50%)`;
    context.fillRect(0, 0, width, height);
    context.fillStyle = "white";
    context.fillRect(part * width, height / 3, width / 8, height / 3);
  };
  let began = performance.now();
  draw();
  const how = { mimeType: type, videoBitsPerSecond: 100_000 };
  const recorder = new MediaRecorder(canvas.captureStream(20), how);
  const parts = [];
  recorder.ondataavailable = ({ data }) => parts.push(data);
  const stopped = new Promise((resolve) => { recorder.onstop = resolve; });
  recorder.start(500); // in parts, as one that is watched meanwhile
  began = performance.now();
  await new Promise((resolve) => {
    const step = () => {
      draw();
      if (performance.now() - began < ms) requestAnimationFrame(step);
      else resolve();
    };
    step();
  });
  recorder.stop();
  await stopped;
  const bytes = new Uint8Array(await new Blob(parts).arrayBuffer());
  return btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join(""));
}
"""


def record(page: Page, type_: str, size: tuple[int, int], seconds: float) -> bytes:
    width, height = size
    what = {"type": type_, "width": width, "height": height, "ms": seconds * 1000}
    return base64.b64decode(page.evaluate(_RECORD, what))


def main(folder: Path) -> None:
    with chromium() as browser:
        page = browser.new_page()
        for kind, type_ in TYPES.items():
            (folder / f"canvas.{kind}").write_bytes(record(page, type_, (160, 90), 2.0))


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parents[1] / "recordings")
