"""The live view as a person sees it: it moves while the cell runs, and shows the final figures."""

from __future__ import annotations

import re
import time
from pathlib import Path

from tests.browser.lab import Lab

_CELLS = [
    "%load_ext memcell",
    "%memwatch",
    """import time
kept = globals().get("kept", [])
for _ in range(12):
    kept.append(bytearray(20 << 20))
    time.sleep(0.25)""",
    """%%memwatch
more = bytearray(64 << 20)
'the value'""",
    "%memclean",
]


def _picture(lab: Lab) -> str:
    """What the view in the second cell says, in words."""
    return lab.page.locator(".jp-Notebook .jp-Cell").nth(1).locator("svg[role=img]").first.get_attribute("aria-label")


def _elapsed_s(picture: str) -> float | None:
    found = re.search(r"([\d.]+) s\b", picture)
    return float(found[1]) if found else None


def test_the_view_moves_during_a_cell_and_then_shows_its_figures(lab: Lab, screenshots: Path) -> None:
    lab.open("live", _CELLS)
    lab.run(0)
    lab.run(1)

    lab.start(2)
    seen = []
    while not lab.has_ended():
        seen.append(_picture(lab))
        if len(seen) == 15:
            lab.page.screenshot(path=screenshots / "during.png")
        time.sleep(0.1)
    during = [picture for picture in dict.fromkeys(seen) if "[3]" in picture]
    assert len(during) >= 6, during
    assert max(seen.count(picture) for picture in during) < 8, "the view stood still"

    lab.run(2)  # a re-run: the second bar beside the first
    lab.page.wait_for_function("() => document.querySelector('svg[role=img]').innerHTML.includes('[4]')")
    tooltips = lab.page.locator("svg[role=img] title").all_text_contents()
    for number in (3, 4):
        assert any(
            tip.startswith("import time") and re.search(rf"\[{number}\] \+24[01]\.\d MiB kept", tip) for tip in tooltips
        ), tooltips
    line = " ".join(text for output in lab.outputs(2) for text in _plain(output))
    assert re.search(r"\[4\] \+24[01]\.\d MiB kept .* peak \+24[01]\.\d MiB", line), line

    lab.run(3)
    kinds = [set(output["data"]) for output in lab.outputs(3)]
    assert any("application/vnd.jupyter.widget-view+json" in kind for kind in kinds)
    assert {"image/png", "text/plain"} in kinds, "the static picture stands by itself"
    values = [output for output in lab.outputs(3) if "'the value'" in _plain(output)]
    assert len(values) == 1
    lab.run(4)
    lab.page.wait_for_timeout(500)
    lab.page.screenshot(path=screenshots / "after.png")

    lab.save_and_reopen()
    lab.page.screenshot(path=screenshots / "reopened.png")
    picture = lab.page.locator(".jp-Notebook img[src^='data:image/png']")
    picture.first.wait_for(timeout=30_000)


def _plain(output: dict[str, object]) -> list[str]:
    data = output.get("data", {})
    text = data.get("text/plain", "") if isinstance(data, dict) else ""
    return [text if isinstance(text, str) else "".join(text)]
