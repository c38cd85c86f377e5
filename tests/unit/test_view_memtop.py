"""The table of the namespace by size."""

from __future__ import annotations

from memcell.records.protected import SharedInfo
from memcell.records.sized import NamespaceEntry, NamespaceSizes
from memcell.units import MIB
from memcell.view import tables
from memcell.view.html import table_html
from memcell.view.text import table_text

ENTRIES = (
    NamespaceEntry(
        "df", "pandas.DataFrame", 300 * MIB, shared_with=("df2",), also_held_by=("Out[3]",), freed_by_del="nothing"
    ),
    NamespaceEntry(
        "big", "dict", 200 * MIB, complete=False, shared_with=("a", "b", "c", "d", "e"), freed_by_del="part"
    ),
    NamespaceEntry("graph", "igraph.Graph", 8 * MIB, freed_by_del="all", note="estimated from vertices and edges"),
    NamespaceEntry("Out[7]", "list", 4 * MIB, freed_by="%memclean out"),
)


def sizes(**changes):
    values = {"entries": ENTRIES, "count": 12, "total_bytes": 512 * MIB, "rss_bytes": 1024 * MIB, **changes}
    return NamespaceSizes(**values)


def test_who_shares_it_and_whether_del_helps():
    lines = table_text(tables.memtop(sizes())).splitlines()
    heads = [head.strip() for head in lines[0].split("  ") if head.strip()]
    assert heads == ["variable", "type", "size", "shared with", "also held by", "del helps?", "note"]
    rows = {line.split()[0]: " ".join(line.split()[1:]) for line in lines[2:6]}
    assert rows == {
        "df": "pandas.DataFrame 300.0 MiB df2 Out[3] no",
        "big": "dict ≥ 200.0 MiB a, b, c and 2 more partly",
        "graph": "igraph.Graph 8.0 MiB yes estimated from vertices and edges",
        "Out[7]": "list 4.0 MiB no: %memclean out",
    }
    assert lines[-1] == "512.0 MiB in 12 variables and what the shell keeps; 50% of the kernel's 1 GiB"


def test_what_was_not_counted_is_said():
    line = table_text(tables.memtop(sizes(uncounted=("a", "b", "c", "d"), holders_complete=False))).splitlines()[-1]
    assert line.startswith("≥ 512.0 MiB in 12 variables")
    assert "not counted to the end: a, b, c and 1 more" in line
    assert line.endswith("the search for holders ran out of time")


def test_more_than_is_resident_is_no_share():
    line = table_text(tables.memtop(sizes(total_bytes=2048 * MIB))).splitlines()[-1]
    assert line.endswith("more than the kernel's resident 1 GiB")


def test_shared_objects_have_a_line_each():
    shared = (SharedInfo("load", 2, 96 * MIB, 83.0, 7, 3), SharedInfo("other", 1, 0, 1.0, 0, None))
    lines = table_text(tables.memtop(sizes(shared=shared))).splitlines()
    assert lines[-2:] == [
        "memcell.shared load: 96.0 MiB, 1 min 23 s old, 7 hits, built in [3]",
        "memcell.shared other: 0.0 MiB, 1.00 s old, 0 hits",
    ]


def test_names_of_a_user_cannot_break_the_page():
    entry = NamespaceEntry("<b>\n", "<i>", MIB, also_held_by=("<script>",), freed_by_del="nothing")
    html = table_html(tables.memtop(sizes(entries=(entry,))))
    assert "<script>" not in html
    assert "<b>" not in html
