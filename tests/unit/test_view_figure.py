"""Static figures: what they show, that pyplot and the user's style are left alone, and what they are saved as."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from memcell.errors import InvalidSettingError
from memcell.records.measured import Limit, Run
from memcell.units import GIB, MIB
from tests.lazily import Lazily
from tests.unit.view_records import LIMIT, WEIRD, make_run

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Image = Lazily("PIL.Image")
figure = Lazily("memcell.view.figure")
matplotlib = Lazily("matplotlib")
np = Lazily("numpy")

RUNS = [make_run(n, kept=-50 if n == 4 else 100, curve_bytes=(510 * MIB, 800 * MIB, 600 * MIB)) for n in range(1, 8)]


def _heights(axes: Axes, label: str) -> list[float]:
    (container,) = (bars for bars in axes.containers if bars.get_label() == label)
    return [bar.get_height() for bar in container.patches]


def _labels(axes: Axes) -> list[str]:
    return [text.get_text() for text in axes.get_legend().get_texts()]


def test_bars_show_kept_and_peak_growth() -> None:
    bars, _ = figure.figure(RUNS).axes
    assert _heights(bars, "kept") == [run.retained_bytes for run in RUNS]
    assert _heights(bars, "peak growth") == [run.peak_growth_bytes for run in RUNS]
    assert bars.get_ylabel() == "MiB"
    assert bars.get_xlabel() == "run"


def test_level_shows_time_since_the_first_run() -> None:
    _, level = figure.figure(RUNS).axes
    times, sizes = level.lines[0].get_data()
    assert times[0] == 0
    assert times[-1] == pytest.approx(6 * 4 + 1.24)
    assert max(sizes) == 800 * MIB
    assert level.get_xlabel() == "s"
    assert level.get_ylim()[1] > max(run.peak_bytes for run in RUNS)


def test_limit_is_a_line_within_sight_and_words_beyond() -> None:
    _, near = figure.figure(RUNS, Limit(1 * GIB, None, "cgroup")).axes
    assert "limit 1 GiB" in _labels(near)
    _, far = figure.figure(RUNS, LIMIT).axes
    assert _labels(far) == ["kernel", "peak"]
    assert far.get_title(loc="right") == "limit 24 GiB"


def test_only_the_last_bars_are_drawn() -> None:
    bars, _ = figure.figure([make_run(number) for number in range(200)]).axes
    assert len(_heights(bars, "kept")) == 60
    assert bars.get_title(loc="left") == "Memory per run (last 60 of 200)"


@pytest.mark.parametrize(
    "runs",
    [[], [make_run()], [make_run(kept=0, peak=0, duration_s=0.0)], [make_run(kept=-1e6, peak=1e9, source_line=WEIRD)]],
)
def test_png_of_any_runs_is_opaque_and_white(runs: list[Run]) -> None:
    picture = Image.open(io.BytesIO(figure.png(runs, LIMIT)))
    assert picture.size == (770, 396)
    pixels = np.asarray(picture.convert("RGBA"))
    assert pixels[..., 3].min() == 255
    assert tuple(pixels[0, 0]) == (255, 255, 255, 255)


def test_picture_of_one_run() -> None:
    run = make_run(curve_bytes=(510 * MIB, 800 * MIB, 600 * MIB), outcome="interrupted", peak_error_bytes=None)
    picture = Image.open(io.BytesIO(figure.run_png(run, LIMIT)))
    assert picture.size == (770, 209)
    blue = tuple(round(255 * part) for part in matplotlib.colors.to_rgb("#0072B2"))
    assert (np.asarray(picture.convert("RGB")) == blue).all(axis=-1).any()
    assert figure.run_png(make_run(kept=0, peak=0, duration_s=0.0))


def test_pyplot_is_not_imported_and_settings_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "matplotlib.pyplot", raising=False)
    before = dict(dict.items(matplotlib.rcParams))  # a plain look at rcParams["backend"] would itself import pyplot
    figure.png(RUNS, LIMIT)
    figure.run_png(RUNS[0])
    assert "matplotlib.pyplot" not in sys.modules
    assert dict(dict.items(matplotlib.rcParams)) == before


def test_style_of_the_user_does_not_matter() -> None:
    plain = figure.png(RUNS, LIMIT), figure.run_png(RUNS[0], LIMIT)
    style = {
        "figure.facecolor": "black",
        "savefig.transparent": True,
        "savefig.dpi": 30,
        "font.size": 40,
        "axes.grid": True,
        "lines.linewidth": 9,
        "text.usetex": True,
    }
    with matplotlib.rc_context(style):
        assert (figure.png(RUNS, LIMIT), figure.run_png(RUNS[0], LIMIT)) == plain


@pytest.mark.parametrize(("name", "begin"), [("a.png", b"\x89PNG"), ("a.SVG", b"<?xml")])
def test_save_by_suffix(tmp_path: Path, name: str, begin: bytes) -> None:
    figure.save(RUNS, tmp_path / name, LIMIT)
    saved = (tmp_path / name).read_bytes()
    assert saved.startswith(begin)
    figure.save(RUNS, str(tmp_path / name), LIMIT)
    assert (tmp_path / name).read_bytes() == saved


def test_save_refuses_other_suffixes_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(
        InvalidSettingError, match=r"^cannot save a figure as 'a\.gif'; end its name in \.png or \.svg$"
    ):
        figure.save(RUNS, tmp_path / "a.gif")
    assert not list(tmp_path.iterdir())
