"""How memcell's records show themselves when they are the value of a cell: as the tables that the magics show."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from IPython.core.interactiveshell import InteractiveShell

from memcell.records.cleaned import CleanReport
from memcell.records.measured import Run
from memcell.run_history import History

if TYPE_CHECKING:
    from memcell.records.explained import RepeatReport
    from memcell.session import Session


def _line(run: Run) -> str:
    from memcell.view.text import summary_line

    return summary_line(run)


def _table(report: CleanReport) -> str:
    from memcell.view.text import clean_table

    return clean_table(report)


def _table_html(report: CleanReport) -> str:
    from memcell.view.html import clean_table_html

    return clean_table_html(report)


def _repeated(report: RepeatReport) -> str:
    from memcell.view.text import repeat_table

    return repeat_table(report)


def _repeated_html(report: RepeatReport) -> str:
    from memcell.view.html import repeat_table_html

    return repeat_table_html(report)


def _runs(history: History) -> str:
    from memcell.view.text import runs_table

    return runs_table(history) if len(history) else repr(history)


def _runs_html(history: History) -> str:
    from memcell.view.html import runs_table_html

    return runs_table_html(history)


#: By name where nothing needs the class before there is one to show.
_REPEAT_REPORT = "memcell.records.explained.RepeatReport"
_PLAIN: dict[type | str, Callable[[Any], str]] = {
    Run: _line,
    CleanReport: _table,
    _REPEAT_REPORT: _repeated,
    History: _runs,
}
_HTML: dict[type | str, Callable[[Any], str]] = {
    CleanReport: _table_html,
    _REPEAT_REPORT: _repeated_html,
    History: _runs_html,
}


def register(shell: InteractiveShell, session: Session) -> Callable[[], None]:
    """Teach a shell to show records; returns what makes it forget that. That may be called twice."""
    assert shell.display_formatter is not None
    plain = shell.display_formatter.formatters["text/plain"]
    rich = shell.display_formatter.formatters["text/html"]

    def shown(record: Any, show: Callable[[Any], str]) -> str:
        with session.own():  # loads the views
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
