"""The user's variables: which they are, how large about, and removing them."""

from __future__ import annotations

import gc
import weakref

import pytest

from memcell.clean.imports import Imports
from memcell.clean.namespace import Namespace, data_size, object_size
from memcell.errors import MemcellError, UnknownVariableError
from tests.lazily import Lazily

np = Lazily("numpy")
pd = Lazily("pandas")


class Thing:
    pass


def names_of(variables):
    return {variable.name for variable in variables}


@pytest.fixture
def hidden():
    return {"In": [""], "Out": {}, "open": open, "_i": "x", "get_ipython": print}


@pytest.fixture
def user(hidden):
    return {**hidden, "__name__": "__main__", "exit": exit, "early": Thing(), "number": 1000}


@pytest.fixture
def namespace(user, hidden):
    return Namespace(user, hidden, Imports({}))


def test_what_was_there_before_is_not_the_users(namespace, user):
    before = dict(user)
    assert namespace.variables() == []
    assert namespace.remove_variables() == []
    assert user == before


def test_what_the_user_bound_since_is_removed(namespace, user):
    before = dict(user)
    user.update(x=1, frame="text", _private=[])
    assert names_of(namespace.remove_variables()) == {"x", "frame", "_private"}
    assert user == before


def test_a_name_from_before_that_is_bound_anew_is_the_users(namespace, user):
    user["early"], user["number"] = Thing(), 2000
    assert names_of(namespace.remove_variables()) == {"early", "number"}
    assert "early" not in user


def test_what_the_shell_adds_later_is_not_the_users(namespace, user, hidden):
    user["_7"] = hidden["_7"] = Thing()
    user["_exit_code"] = 0
    assert namespace.variables() == []


def test_the_shells_own_names_stay_whatever_is_bound_to_them(namespace, user):
    user.update(In=5, Out=6, exit=7, get_ipython=8, __name__="other")
    assert namespace.variables() == []


def test_a_builtin_of_the_shell_that_the_user_covered_comes_back(namespace, user):
    user["open"] = Thing()
    assert names_of(namespace.remove_variables()) == {"open"}
    assert user["open"] is open


def test_remembering_what_was_there_keeps_nothing_alive(namespace, user):
    early = weakref.ref(user["early"])
    del user["early"]
    gc.collect()
    assert early() is None
    user["early"] = Thing()
    assert names_of(namespace.variables()) == {"early"}


def test_names_to_keep_stay(namespace, user):
    user.update(a=1, b=2, c=3)
    assert names_of(namespace.remove_variables(keep=["a", "c"])) == {"b"}
    assert {"a", "c"} <= set(user)


def test_a_name_to_keep_that_is_not_there_removes_nothing(namespace, user):
    user.update(graph=1, table=2)
    with pytest.raises(UnknownVariableError) as error:
        namespace.remove_variables(keep=["table", "grpah"])
    assert str(error.value) == (
        "cannot keep 'grpah': there is no such variable; did you mean 'graph'? variables: graph, table"
    )
    assert isinstance(error.value, MemcellError)
    assert {"graph", "table"} <= set(user)


def test_the_list_of_names_in_the_message_is_short(namespace, user):
    user.update({f"v{i}": i for i in range(100)})
    with pytest.raises(UnknownVariableError, match=r"v19 and 80 more$"):
        namespace.variables(keep=["other"])


def test_names_from_before_may_be_kept_too(namespace, user):
    user["x"] = 1
    assert names_of(namespace.variables(keep=["early"])) == {"x"}


def test_the_list_has_names_types_and_sizes_and_the_largest_first(namespace, user):
    user.update(small=np.zeros(10), text="x" * 1000, large=np.zeros(1000), frame=pd.DataFrame({"a": np.zeros(500)}))
    listed = [(variable.name, variable.type_name, variable.size_bytes) for variable in namespace.variables()]
    assert listed == [
        ("large", "numpy.ndarray", 8000),
        ("frame", f"{pd.DataFrame.__module__}.DataFrame", 4000 + pd.RangeIndex(500).memory_usage()),
        ("text", "str", object_size("x" * 1000)),
        ("small", "numpy.ndarray", 80),
    ]
    assert {"large", "small"} <= set(user), "listing removes nothing"


def test_above_a_size_only_data_goes(namespace, user):
    user.update(small=np.zeros(10), large=np.zeros(1000), text="x" * 9000, column=pd.Series(np.zeros(900)))
    assert names_of(namespace.remove_variables(larger_than=5000)) == {"large", "column"}
    assert {"small", "text"} <= set(user)


def test_a_size_that_an_object_does_not_tell_is_none(namespace, user):
    class Secretive:
        def __sizeof__(self):
            raise RuntimeError

    user["secret"] = Secretive()
    (variable,) = namespace.variables()
    assert variable.size_bytes is None
    assert variable.type_name.endswith("Secretive")


def test_an_object_is_not_asked_for_its_class():
    class Proxy:
        @property
        def __class__(self):
            raise AssertionError("the proxy was made to load")

    assert data_size(Proxy()) is None


def test_data_of_a_subclass_is_data(tmp_path):
    mapped = np.memmap(tmp_path / "data", dtype="u1", mode="w+", shape=100)
    assert data_size(mapped) == 100
    assert data_size(pd.RangeIndex(3)) == pd.RangeIndex(3).memory_usage()
    assert data_size([1, 2]) is None


def test_names_that_are_no_text_are_left_alone(namespace, user):
    user[5] = "five"
    assert namespace.variables() == []


def test_reset_leaves_the_namespace_as_it_was(namespace, user):
    before = dict(user)
    things = weakref.WeakSet()
    thing = Thing()
    thing.itself = thing
    things.add(thing)
    user.update(x=thing, __annotations__={"x": Thing}, f=lambda thing=thing: thing)
    del thing
    namespace.reset()
    namespace.reset()
    gc.collect()
    assert user == before
    assert not things


def test_a_class_without_a_module(namespace, user):
    exec("one = type('A', (), {})()", place := {})  # as C code makes them
    user["one"] = place["one"]
    assert ("one", "A") in [(variable.name, variable.type_name) for variable in namespace.variables()]
