"""The runs of a session, in order, and how they leave it: as plain data, a data frame or a figure."""

from __future__ import annotations

import dataclasses
import importlib
import json
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from memcell.errors import InvalidSettingError, MissingLibraryError
from memcell.records.measured import Run

if TYPE_CHECKING:
    import pandas
    from matplotlib.figure import Figure

_COLUMNS = (*(field.name for field in dataclasses.fields(Run)), "retained_bytes", "peak_growth_bytes")


class History(Sequence[Run]):
    """A bounded sequence of runs, oldest first. The oldest goes when there are more than ``size``.

    Args:
        size: How many runs to keep.
        plot: Draws runs; handed in, so that nothing here knows a drawing library.
    """

    def __init__(self, size: int, plot: Callable[[Sequence[Run]], Figure]) -> None:
        self._runs: deque[Run] = deque(maxlen=size)
        self._plot = plot

    def __len__(self) -> int:
        return len(self._runs)

    @overload
    def __getitem__(self, index: int) -> Run: ...
    @overload
    def __getitem__(self, index: slice) -> list[Run]: ...
    def __getitem__(self, index: int | slice) -> Run | list[Run]:
        return list(self._runs)[index] if isinstance(index, slice) else self._runs[index]

    def __iter__(self) -> Iterator[Run]:
        return iter(tuple(self._runs))  # a copy, so that a run that ends meanwhile does no harm

    def __repr__(self) -> str:
        return f"<memcell history: {len(self)} of at most {self._runs.maxlen} runs>"

    def append(self, run: Run) -> None:
        """Add a run; the oldest goes if there is no room."""
        self._runs.append(run)

    def replace(self, old: Run, new: Run) -> None:
        """Put another record in the place of one: more is known of it now. Other threads' runs may have come since."""
        for index in reversed(range(len(self._runs))):
            if self._runs[index] is old:
                self._runs[index] = new
                return

    def resize(self, size: int) -> None:
        """Keep at most ``size`` runs from now on."""
        if size != self._runs.maxlen:
            self._runs = deque(self._runs, maxlen=size)

    def clear(self) -> None:
        """Forget all runs."""
        self._runs.clear()

    def to_dicts(self) -> list[dict[str, Any]]:
        """The runs as dictionaries of plain values: sizes in bytes, times in seconds."""
        return [run.to_dict() for run in self]

    def to_json(self, path: str | Path | None = None) -> str:
        """The runs as a JSON array; also written to ``path`` if one is given."""
        return _written(json.dumps(self.to_dicts(), indent=1), path)

    def to_csv(self, path: str | Path | None = None) -> str:
        """The runs as CSV with a header, without their curves; also written to ``path`` if one is given."""
        import csv
        import io

        text = io.StringIO(newline="")
        columns = [column for column in _COLUMNS if column != "curve_bytes"]
        writer = csv.DictWriter(text, columns, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.to_dicts())
        return _written(text.getvalue(), path)

    def to_pandas(self) -> pandas.DataFrame:
        """The runs as a data frame, one row a run; ``started`` is a time stamp in UTC.

        Raises:
            MissingLibraryError: pandas is not installed.
        """
        try:
            library = importlib.import_module("pandas")
        except ImportError as error:
            raise MissingLibraryError(
                "to_pandas() needs pandas, which is not installed: pip install 'memcell[pandas]', or use to_dicts()"
            ) from error
        frame: pandas.DataFrame = library.DataFrame(self.to_dicts(), columns=list(_COLUMNS))
        frame["started"] = library.to_datetime(frame["started"], unit="s", utc=True)
        return frame

    def plot(self) -> Figure:
        """A figure of retained and peak memory per run and of the level over time.

        Raises:
            InvalidSettingError: There is no run yet.
        """
        if not self._runs:
            raise InvalidSettingError("no run is recorded yet; run a cell after %load_ext memcell, then plot again")
        return self._plot(tuple(self._runs))


def _written(text: str, path: str | Path | None) -> str:
    if path is not None:
        Path(path).write_text(text, encoding="utf-8")
    return text
