"""How memcell's records show themselves when they are the value of a cell: as the tables that the magics show."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from IPython.core.interactiveshell import InteractiveShell

from memcell.records.cleaned import CleanReport
from memcell.records.measured import Run
from memcell.run_history import History

if TYPE_CHECKING:
    from memcell.session import Session
    from memcell.view.tables import Table


def _run(run: Run) -> str:
    from memcell.view.text import summary_line

    return summary_line(run)


def _plain_table(record: object) -> str:
    from memcell.view.text import table_text

    return table_text(_table(record))


def _history(history: History) -> str:
    return _plain_table(history) if len(history) else repr(history)


def _rich_table(record: object) -> str:
    from memcell.view.html import table_html

    return table_html(_table(record))


def _table(record: Any) -> Table:
    from memcell.view import tables

    if isinstance(record, History):
        return tables.runs(record)
    return tables.clean_report(record) if isinstance(record, CleanReport) else tables.repeat(record)


#: By name where nothing needs the class before there is one to show.
_REPEAT_REPORT = "memcell.records.explained.RepeatReport"
_PLAIN: dict[type | str, Callable[[Any], str]] = {
    Run: _run,
    CleanReport: _plain_table,
    _REPEAT_REPORT: _plain_table,
    History: _history,
}
_HTML: dict[type | str, Callable[[Any], str]] = dict.fromkeys((CleanReport, _REPEAT_REPORT, History), _rich_table)


def register(shell: InteractiveShell, session: Session) -> Callable[[], None]:
    """Teach a shell to show records; returns what makes it forget that. That may be called twice."""
    assert shell.display_formatter is not None
    plain = shell.display_formatter.formatters["text/plain"]
    rich = shell.display_formatter.formatters["text/html"]

    def shown(record: Any, show: Callable[[Any], str]) -> str:
        with session.meter.own():  # loads the views
            return show(record)

    for kind, show in _PLAIN.items():
        plain.for_type(kind, lambda record, printer, _cycle, show=show: printer.text(shown(record, show)))
    for kind, show in _HTML.items():
        rich.for_type(kind, lambda record, show=show: shown(record, show))

    def unregister() -> None:
        for kind in _PLAIN:
            plain.pop(kind, None)
        for kind in _HTML:
            rich.pop(kind, None)

    return unregister
