"""The cleaner "pandas" on the real library."""

from __future__ import annotations

from memcell.units import MIB
from tests.libraries.fresh import in_fresh_process


def test_look_up_tables_of_live_indexes_go_and_the_indexes_stay():
    built, freed, found, again = in_fresh_process(
        """
        import numpy as np
        import pandas as pd
        frame = pd.DataFrame({"v": np.arange(2_000_000.0)}, index=[f"k{i}" for i in range(2_000_000)])
        clean()
        before = process.memory_info().rss
        frame.loc["k5"]
        built = process.memory_info().rss - before
        freed = clean("pandas")["pandas"]
        gone = "_engine" not in frame.index._cache
        print(json.dumps([built, freed, gone, float(frame.loc["k1234567", "v"])]))
        """
    )
    assert built >= 128 * MIB
    assert freed >= 0.9 * built
    assert found
    assert again == 1234567


def test_strings_of_deleted_frames_come_back_without_being_named():
    held, after = in_fresh_process(
        """
        import pandas as pd
        pd.Series(["x"])
        clean()
        before = process.memory_info().rss
        columns = [pd.Series([str(i) * 10 for i in range(50_000)]) for _ in range(40)]
        assert columns[0].dtype == "str"
        held = process.memory_info().rss - before
        del columns
        clean()
        print(json.dumps([held, process.memory_info().rss - before]))
        """
    )
    assert held >= 80 * MIB
    assert after <= 0.1 * held


def test_another_version_without_the_attribute_is_an_error_of_this_cleaner_alone():
    errors = in_fresh_process(
        """
        import types
        sys.modules["pandas.core.indexes.base"] = types.ModuleType("pandas.core.indexes.base")
        report = runner.clean()
        print(json.dumps({outcome.name: outcome.error for outcome in report.outcomes}))
        """
    )
    assert errors.pop("pandas") == "AttributeError: module 'pandas.core.indexes.base' has no attribute 'Index'"
    assert errors["trim"] is None
    assert set(errors.values()) == {None}
