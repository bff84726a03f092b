"""The page in a real browser, where there is one: nothing is wider than a phone, letters are large enough, the line
can be dragged. Slow: it starts Chromium."""

import json
import os
import re
import shutil
import subprocess

import pytest
from report_samples import artifact, content
from test_page import many

from dubio.report.html import render

CHROMIUM = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), ""
)
FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
         "--disable-background-networking", "--disable-component-update", "--virtual-time-budget=3000",
         "--allow-file-access-from-files", "--window-size=1400,3000", "--dump-dom")  # fmt: skip
pytestmark = [pytest.mark.slow, pytest.mark.skipif(not CHROMIUM, reason="no Chromium on this machine")]

MEASURE = """
document.querySelectorAll('details').forEach((part) => (part.open = true));
const leaves = [...document.querySelectorAll('body *')].filter((e) => !e.children.length && e.textContent.trim() &&
  !['SCRIPT', 'STYLE'].includes(e.tagName));
const sizes = leaves.map((e) => parseFloat(getComputedStyle(e).fontSize));
report({width: document.documentElement.clientWidth, scroll: document.documentElement.scrollWidth,
  smallest: Math.min(...sizes), dial: !document.querySelector('.dial').hidden});
"""
DRAG = """
const frame = document.querySelector('.frame.live'), area = frame.getBoundingClientRect();
const words = document.querySelector('output'), out = [];
frame.setPointerCapture = () => {};
for (const type of ['mouse', 'touch']) for (const height of [0.1, 0.6]) {
  const at = {clientX: area.left + 30, clientY: area.bottom - height * area.height, pointerId: 1, pointerType: type};
  frame.dispatchEvent(new PointerEvent('pointerdown', at));
  out.push(words.textContent);
}
report(out);
"""


@pytest.fixture(scope="module")
def full():
    return content(artifact(), risk=0.1)


def in_browser(folder, page, code, width):
    """What `report(...)` is given by code that runs in the page, shown in a frame of this width."""
    open_page = re.sub(r"<meta http-equiv[^>]*>", "", page)  # the policy would refuse the test's own script
    ask = "const report = (found) => top.postMessage(JSON.stringify(found), '*');"
    script = f"<script>addEventListener('load', () => {{ {ask} {code} }})</script></body>"
    (folder / "page.html").write_text(open_page.replace("</body>", script), encoding="utf-8")
    hear = "addEventListener('message', (e) => { document.querySelector('pre').textContent = e.data; })"
    frame = f"<iframe src='page.html' style='width:{width}px;height:2500px;border:0'></iframe>"
    (folder / "frame.html").write_text(f"<body><pre></pre><script>{hear}</script>{frame}</body>", encoding="utf-8")
    command = [CHROMIUM, *FLAGS, f"--user-data-dir={folder / 'profile'}", (folder / "frame.html").as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=os.environ, check=False)
    found = re.search(r"<pre>(.*?)</pre>", done.stdout, re.DOTALL)
    assert found, done.stderr[-2000:]
    return json.loads(found[1].replace("&nbsp;", " ").replace("&amp;", "&"))


@pytest.mark.parametrize("width", [320, 390, 1280])
@pytest.mark.parametrize("classes", [3, 150])
def test_nothing_is_wider_than_the_screen_and_letters_can_be_read(full, tmp_path, classes, width):
    found = in_browser(tmp_path, render(many(full, classes)), MEASURE, width)
    assert found["scroll"] <= found["width"] <= width
    assert found["smallest"] >= 12
    assert found["dial"]


def test_the_line_is_dragged_by_a_mouse_and_not_by_a_scrolling_finger(full, tmp_path):
    low, high, *touched = in_browser(tmp_path, render(full), DRAG, 1280)
    answers = {answer.outcome for answer in full.answers}
    assert {low, high} <= answers
    assert float(low.split()[2]) < float(high.split()[2])
    assert touched == [high, high]
