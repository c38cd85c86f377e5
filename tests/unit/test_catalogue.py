"""Cleaners that are in the catalogue for a while."""

from __future__ import annotations

from memcell.clean.catalogue import Catalogue
from memcell.clean.cleaner import built_in_cleaner
from memcell.clean.registry import Registry


def cleaner(name, about=""):
    return built_in_cleaner(name, lambda: None, effect="none", about=about)


def test_added_cleaners_are_found_until_they_are_taken_out():
    catalogue = Catalogue(lambda: [cleaner("gc")], Registry())
    undo = catalogue.extend([cleaner("out"), cleaner("traceback")])
    assert set(catalogue.names()) >= {"gc", "out", "traceback"}
    undo()
    undo()
    assert "gc" in catalogue.names()
    assert not {"out", "traceback"} & set(catalogue.names())


def test_of_two_shells_the_newer_counts_until_it_leaves():
    catalogue = Catalogue(tuple, Registry())
    catalogue.extend([cleaner("out", "first")])
    undo = catalogue.extend([cleaner("out", "second")])
    assert [found.about for found in catalogue.select(["out"])] == ["second"]
    undo()
    assert [found.about for found in catalogue.select(["out"])] == ["first"]
