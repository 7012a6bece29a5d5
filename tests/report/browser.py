"""What a browser shows of a page: headless Chromium without network, if it is installed."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess

import pytest

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
# In a frame, media queries see the width of the frame, however narrow windows may be.
FRAME = """<!doctype html><body><iframe id="page" style="width:{width}px;height:900px"
srcdoc="{page}"></iframe><pre id="found"></pre><script>
window.onload = () => {{
  const frame = document.getElementById("page"), view = frame.contentWindow;
  const inner = frame.contentDocument, root = inner.documentElement;
  const color = (what, name) => view.getComputedStyle(inner.querySelector(what))[name];
  const found = {{
    text: inner.body.innerText, title: inner.title, alerts: view.alerted || 0,
    width: root.scrollWidth, room: root.clientWidth,
    back: color("body", "backgroundColor"), ink: color("body", "color"),
    pictures: [...inner.querySelectorAll("svg")].map(one => one.getBoundingClientRect().width),
    line: inner.querySelector("svg path[style*='--c0']") &&
      color("svg path[style*='--c0']", "stroke"),
    plotted: inner.querySelector("svg text") && color("svg text", "fill"),
    tags: [...new Set([...inner.querySelectorAll("*")].map(one => one.localName))],
  }};
  document.getElementById("found").textContent = JSON.stringify(found);
}};
</script>"""


def look(page, folder, *, width=1000, dark=False):
    """Return what is visible of a page: its text, its widths, and its colors."""
    if CHROMIUM is None:
        pytest.skip("no Chromium is installed")
    file = folder / "frame.html"
    file.write_text(FRAME.format(width=width, page=html.escape(page)), encoding="utf-8")
    words = [
        CHROMIUM,
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--dump-dom",
        "--window-size=1200,900",
        "--host-resolver-rules=MAP * ~NOTFOUND",
        f"--user-data-dir={folder / 'profile'}",
        f"--blink-settings=preferredColorScheme={int(not dark)}",
        f"file://{file}",
    ]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120, check=True)
    found = re.search(r'<pre id="found">(.*?)</pre>', done.stdout, re.DOTALL)
    return json.loads(html.unescape(found[1]))
