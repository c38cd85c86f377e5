"""``memcell postmortem``: what it prints, writes and removes, and its mistakes in one line."""

from __future__ import annotations

import json
import os
import sys

import pytest

from memcell.cli import main
from memcell.protect.blackbox import folder_key

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="there is a watcher on Linux only")


@pytest.fixture
def boxes(tmp_path, monkeypatch):
    """Two deaths in ``here``, which is the present folder, and one in ``there``."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    folder = tmp_path / "state" / "memcell"
    folder.mkdir(parents=True)
    content = {
        "format": 1,
        "memcell": "",
        "python": "",
        "pid": 1,
        "notebook": "",
        "signal": "SIGSEGV",
        "exit_status": None,
        "oom": "no",
        "run": None,
        "running": False,
        "ended": None,
        "times_s": [-1, 0],
        "rss_bytes": [1 << 28, 1 << 29],
        "children_bytes": [],
    }
    for name, died in (("here", 1_700_000_000), ("here", 1_700_000_100), ("there", 1_700_000_200)):
        place = tmp_path / name
        place.mkdir(exist_ok=True)
        text = json.dumps({**content, "folder": str(place), "died": died})
        (folder / f"{folder_key(str(place))}-{died}-1-1.json").write_text(text)
    monkeypatch.chdir(tmp_path / "here")
    return folder


def test_the_latest_death_of_the_present_folder(boxes, capsys, tmp_path):
    assert main(["postmortem"]) == 0
    told = capsys.readouterr().out
    assert "The kernel died before its first run" in told
    assert "crashed with SIGSEGV" in told
    assert f"1 more in this folder: memcell postmortem --list {tmp_path / 'here'}" in told


def test_another_folder_also_by_a_link(boxes, capsys, tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "there")
    for folder in ("../there", str(tmp_path / "link"), f"{tmp_path}/there/"):
        assert main(["postmortem", folder]) == 0
        assert str(tmp_path / "there") in capsys.readouterr().out


def test_the_list_is_of_all_folders_or_of_one(boxes, capsys):
    assert main(["postmortem", "--list"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 2 + 3
    assert main(["postmortem", "--list", "."]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 2 + 2


def test_json_is_json(boxes, capsys):
    assert main(["postmortem", "--json"]) == 0
    deaths = json.loads(capsys.readouterr().out)
    assert [death["died"] for death in deaths] == [1_700_000_100, 1_700_000_000]
    assert main(["postmortem", "--json", "--all"]) == 0
    assert len(json.loads(capsys.readouterr().out)) == 3


def test_the_page(boxes, capsys, tmp_path):
    assert main(["postmortem", "--html", str(tmp_path / "page.html")]) == 0
    assert capsys.readouterr().out == ""
    assert (tmp_path / "page.html").read_text(encoding="utf-8").count("<svg") == 2


def test_clear_removes_those_of_the_folder_or_all(boxes, capsys):
    assert main(["postmortem", "--clear"]) == 0
    assert capsys.readouterr().out == "2 black boxes removed\n"
    assert len(os.listdir(boxes)) == 1
    assert main(["postmortem", "--clear", "--all"]) == 0
    assert capsys.readouterr().out == "1 black box removed\n"
    assert os.listdir(boxes) == []


def test_where_there_is_nothing_it_says_where_it_looked(boxes, capsys):
    assert main(["postmortem", "/"]) == 0
    told = capsys.readouterr().out
    assert str(boxes) in told
    assert "3 in other folders: memcell postmortem --list" in told
    main(["postmortem", "--clear", "--all"])
    capsys.readouterr()
    main(["postmortem"])
    assert "other folders" not in capsys.readouterr().out


def test_a_torn_box_is_named_and_the_others_are_shown(boxes, capsys):
    latest = max(boxes.glob("*1700000100*"))
    latest.write_text("{")
    assert main(["postmortem"]) == 0
    told = capsys.readouterr()
    assert latest.name in told.err
    assert len(told.err.splitlines()) == 1
    assert "crashed with SIGSEGV" in told.out


@pytest.mark.parametrize("arguments", [["--list", "--json"], ["--nope"], ["a", "b"], ["--html"]])
def test_a_mistake_on_the_line_ends_with_status_2(boxes, capsys, arguments):
    with pytest.raises(SystemExit) as ended:
        main(["postmortem", *arguments])
    assert ended.value.code == 2


def test_a_page_that_cannot_be_written_is_one_line(boxes, capsys):
    assert main(["postmortem", "--html", "/nowhere/page.html"]) == 1
    assert capsys.readouterr().err == (
        "memcell postmortem: cannot write the page /nowhere/page.html: No such file or directory\n"
    )


def test_a_state_folder_that_is_none_is_one_line(boxes, capsys, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    assert main(["postmortem"]) == 1
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_with_a_page_the_others_are_done_as_well(boxes, capsys, tmp_path):
    page = tmp_path / "page.html"
    assert main(["postmortem", "--all", "--list", "--html", str(page)]) == 0
    assert len(capsys.readouterr().out.splitlines()) > 2
    page.unlink()
    assert main(["postmortem", "--all", "--clear", "--html", str(page)]) == 0
    assert "removed" in capsys.readouterr().out
    assert page.exists()
