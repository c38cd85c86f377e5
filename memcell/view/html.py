"""HTML: the summary line and tables for a notebook, and a page that stands alone.

Styles are written into the elements: a front end keeps them in notebooks that it does not trust, where it drops style
sheets. Colours are JupyterLab's theme variables; the page defines the same ones, so that every piece
fits both places.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from memcell.records.measured import Limit, Run
from memcell.view import drawing, tables
from memcell.view.drawing import escape
from memcell.view.phrases import repeat_progress, run_sparkline, summary_parts
from memcell.view.svg import level_svg, runs_svg

if TYPE_CHECKING:
    from memcell.records.deaths import Death

_FONT = "font-family:var(--jp-ui-font-family, system-ui, sans-serif);font-size:var(--jp-ui-font-size1, 13px)"
_FIGURES = f"font-family:{drawing.CODE_FONT};font-variant-numeric:tabular-nums;white-space:nowrap"
_LINE = f"{_FONT};color:{drawing.MUTED};font-variant-numeric:tabular-nums;line-height:1.6"
_SOURCE = (
    f"font-family:{drawing.CODE_FONT};white-space:pre-wrap;overflow-wrap:anywhere;margin:0;padding:8px 12px;"
    f"border-left:3px solid {drawing.RULE}"
)

_CHART_PX = 1000

# The light theme's blue is Okabe and Ito's; the dark one's is their sky blue, which stands out from dark grey.
_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
:root {{
  color-scheme: light dark;
  --jp-ui-font-color1: #1f2328; --jp-ui-font-color2: #59636e; --jp-border-color2: #d8dee4;
  --jp-brand-color1: #0072b2; --page: #fff;
}}
@media (prefers-color-scheme: dark) {{
  :root {{
    --jp-ui-font-color1: #f0f3f6; --jp-ui-font-color2: #9ea7b3; --jp-border-color2: #3d444d;
    --jp-brand-color1: #56b4e9; --page: #15181c;
  }}
}}
body {{
  margin: 0 auto; padding: 2.5rem 1.5rem 4rem; max-width: 66rem; background: var(--page);
  color: var(--jp-ui-font-color1); font: 15px/1.55 system-ui, sans-serif;
}}
h1 {{ font-size: 1.7rem; line-height: 1.2; margin: 0 0 .75rem; }}
h2 {{ font-size: 1.1rem; margin: 2.5rem 0 .75rem; }}
figure {{ margin: 1.75rem 0; }}
.wide {{ overflow-x: auto; }}
code, pre {{ font-family: ui-monospace, monospace; font-size: .92em; }}
</style>
</head>
<body>
<h1>{title}</h1>
{body}
</body>
</html>
"""


def summary_html(run: Run, limit: Limit | None = None) -> str:
    """What a run cost, in one line: the words of ``text.summary_line``."""
    kept, *others = (escape(part) for part in summary_parts(run, limit))
    curve = run_sparkline(run)
    drawn = f'<span style="margin-left:0.9em;color:{drawing.KERNEL};white-space:nowrap">{curve}</span>' if curve else ""
    return (
        f'<div style="{_LINE}">'
        f'<span style="font-family:{drawing.CODE_FONT}">[{run.number}]</span> '
        f'<span style="color:{drawing.INK};font-weight:600">{kept}</span>'
        f"{''.join(f' · {part}' for part in others)}{drawn}</div>"
    )


def lines_html(lines: Iterable[str]) -> str:
    """Lines of words in the style of the summary line."""
    return "".join(f'<div style="{_LINE}">{escape(words)}</div>' for words in lines)


def table_html(table: tables.Table) -> str:
    """A table for a notebook or a page, with the lines under it."""
    lines = "".join(f'<div style="margin-top:4px">{escape(line)}</div>' for line in table.lines)
    grid = ""
    if table.columns:
        heads = "".join(_cell("th", column, column.head) for column in table.columns)
        rows = "".join(
            f"<tr>{''.join(_cell('td', column, words) for column, words in zip(table.columns, row, strict=True))}</tr>"
            for row in table.rows
        )
        grid = (
            '<table style="border-collapse:collapse;margin:0;table-layout:auto;font-size:inherit;color:inherit">'
            f"<thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table>"
        )
    return f'<div style="{_FONT};color:{drawing.INK};line-height:1.4">{grid}{lines}</div>'


def progress_html(done: int, wanted: int, kept_bytes: int, *, ended: bool = False) -> str:
    """How far a repeated cell has got."""
    bar, _, words = repeat_progress(done, wanted, kept_bytes, ended=ended).partition(" ")
    drawn = f'<span style="color:{drawing.KERNEL};letter-spacing:-0.05em">{bar}</span>'
    return f'<div style="{_LINE}">{drawn} {escape(words)}</div>'


def death_html(death: Death) -> str:
    """All that is known of the death of a process: the words of ``text.death_report``, with the picture in SVG."""
    from memcell.view import deaths as death_words  # here, because few sessions ever show one
    from memcell.view.last_minute import last_minute_svg

    parts = [
        f'<div style="font-weight:600">The {death_words.who(death)} died {escape(death_words.where(death))}.</div>'
    ]
    if death.run is not None and not death.run.is_block:
        source = escape("\n".join(death_words.source_lines(death.run)))
        parts.append(f'<pre style="{_SOURCE}">{source}</pre>')
    parts += (_pairs(death_words.facts(death)), last_minute_svg(death))
    if advice := death_words.advice(death):
        parts.append(f'<div style="font-weight:600">What to try next</div>{_pairs(advice, code=True)}')
    body = "".join(f'<div style="margin-bottom:12px">{part}</div>' for part in parts if part)
    return f'<div style="{_FONT};color:{drawing.INK};line-height:1.5">{body}</div>'


def deaths_page(deaths: Sequence[Death]) -> str:
    """A page of its own for deaths, the latest first: each with its source and its picture."""
    from memcell.view import deaths as death_words

    body = [death_html(deaths[0]) if deaths else table_html(death_words.deaths_table(deaths))]
    body += (_section(f"Before that, {death_words.moment(death)}", death_html(death)) for death in deaths[1:])
    return document("What killed the kernel", "\n".join(body))


def page(
    runs: Sequence[Run],
    *,
    title: str,
    limit: Limit | None = None,
    intro_html: str = "",
    sections: Sequence[tuple[str, str]] = (),
) -> str:
    """A page that needs nothing from elsewhere: charts of the runs, their table, and what else the caller has to say.

    Args:
        runs: The runs, oldest first.
        title: The title, as plain text.
        limit: The memory limit that applies, if one is known.
        intro_html: What stands above the charts, as HTML: the caller escapes it.
        sections: What stands below the table: headings as plain text, each with HTML, as ``table_html`` makes it.
    """
    charts = "\n".join(
        f"<figure>{chart}</figure>"
        for chart in (level_svg(runs, limit, _CHART_PX), runs_svg(runs, limit, _CHART_PX))
        if chart
    )
    parts = [intro_html, charts, _section("Runs", table_html(tables.runs(runs)))]
    parts += (_section(heading, content) for heading, content in sections)
    return document(title, "\n".join(filter(None, parts)))


def document(title: str, body: str) -> str:
    """A page that needs nothing from elsewhere, in the light or dark colours that its reader prefers.

    Args:
        title: The title, as plain text.
        body: What stands below it, as HTML: the caller escapes it.
    """
    return _PAGE.format(title=escape(title), body=body)


def _section(heading: str, content: str) -> str:
    return f'<h2>{escape(heading)}</h2>\n<div class="wide">{content}</div>'


def _pairs(pairs: Sequence[tuple[str, str]], *, code: bool = False) -> str:
    """Names and what is said of each, in two columns; ``code``: the names are what to type."""
    font = f"font-family:{drawing.CODE_FONT}" if code else f"color:{drawing.MUTED}"
    style = "padding:2px 14px 2px 0;vertical-align:top;text-align:left"
    rows = "".join(
        f'<tr><td style="{style};white-space:nowrap;{font}">{escape(name)}</td>'
        f'<td style="{style}">{escape(words)}</td></tr>'
        for name, words in pairs
    )
    return f'<table style="border-collapse:collapse;margin:0;font-size:inherit;color:inherit">{rows}</table>'


def _cell(tag: str, column: tables.Column, words: str) -> str:
    """A cell: figures stand at the right in letters of one width, heads are muted above a rule."""
    style = f"text-align:{'right' if column.figures else 'left'};padding:2px 14px 2px 0;vertical-align:top"
    if tag == "th":
        style += f";font-weight:600;color:{drawing.MUTED};border-bottom:1px solid {drawing.RULE};white-space:nowrap"
    elif column.figures:
        style += f";{_FIGURES}"
    elif not column.prose:
        style += ";white-space:nowrap"
    return f'<{tag} style="{style}">{escape(words)}</{tag}>'
