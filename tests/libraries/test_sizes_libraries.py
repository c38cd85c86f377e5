"""Sizes of objects of real libraries: their data counted, and counted once."""

from __future__ import annotations

import gc
import importlib
import sys
import warnings

import psutil
import pytest

from memcell.measure.sizes import Root, Sizing
from memcell.units import MIB
from tests.lazily import Lazily


def sizes_of(**values):
    sizing = Sizing([Root(name, value) for name, value in values.items()], deadline_s=60)
    assert all(size.complete for size in sizing.sizes)
    return {size.name: size for size in sizing.sizes}


def is_about(size_bytes, tolerance=0.02):
    return pytest.approx(size_bytes, rel=tolerance, abs=16 << 10)


class TestNumpy:
    np = Lazily("numpy")

    def test_views_share_the_data_and_copies_do_not(self):
        array = self.np.ones(MIB)
        found = sizes_of(array=array, view=array[::-7], shaped=array.reshape(1024, -1).T, copy=array.copy())
        assert found["array"].size_bytes == found["copy"].size_bytes == is_about(8 * MIB)
        assert found["view"].size_bytes < 1024
        assert found["view"].whole_held_by == ("array",)
        assert found["copy"].whole_held_by == found["copy"].part_held_by == ()

    def test_a_view_holds_all_of_an_array_that_has_no_name_any_more(self):
        assert sizes_of(view=self.np.ones(MIB)[:3])["view"].size_bytes == is_about(8 * MIB)

    def test_arrays_in_containers(self):
        array = self.np.ones(MIB)
        found = sizes_of(holder={"rows": [array[:9], array[9:]], "own": self.np.ones(2 * MIB)}, array=array)
        assert found["array"].size_bytes == is_about(8 * MIB)
        assert found["holder"].size_bytes == is_about(16 * MIB)
        assert found["holder"].part_held_by == ("array",)

    def test_objects_in_an_array(self):
        texts = self.np.array(["x" * (MIB + number) for number in range(4)], dtype=object)
        assert sizes_of(texts=texts)["texts"].size_bytes == is_about(4 * MIB)

    def test_memory_of_others(self):
        data = bytearray(8 * MIB)
        found = sizes_of(array=self.np.frombuffer(data, dtype="u1"), data=data)
        assert sum(size.size_bytes for size in found.values()) == is_about(8 * MIB)

    def test_a_mapped_file_is_not_counted(self, tmp_path):
        array = self.np.memmap(tmp_path / "file", dtype="u1", mode="w+", shape=8 * MIB)
        found = sizes_of(array=array)["array"]
        assert found.size_bytes < 4096
        assert found.note == "8.0 MiB mapped from a file, not counted"

    def test_attributes_of_a_subclass_and_none_of_its_methods(self):
        class Nosy(self.np.ndarray):
            @property
            def base(self):
                raise RuntimeError

            nbytes = __array_interface__ = dtype = flat = base

        array = self.np.ones(MIB).view(Nosy)
        array.more = self.np.ones(MIB)
        assert sizes_of(array=array)["array"].size_bytes == is_about(16 * MIB)

    def test_a_masked_array(self):
        array = self.np.ma.masked_array(self.np.ones(MIB), mask=self.np.zeros(MIB, bool))
        assert sizes_of(array=array)["array"].size_bytes == is_about(9 * MIB)


class TestPandas:
    pd = Lazily("pandas")
    np = Lazily("numpy")

    def frame(self, rows=200_000):
        texts = [f"text number {number}" for number in range(rows)]
        return self.pd.DataFrame(
            {"x": self.np.arange(float(rows)), "s": texts, "o": self.pd.Series(texts, dtype=object), "i": range(rows)}
        )

    def test_a_frame_is_as_large_as_pandas_says(self):
        frame = self.frame()
        assert sizes_of(frame=frame)["frame"].size_bytes == is_about(int(frame.memory_usage(deep=True).sum()), 0.05)

    def test_frames_of_the_same_data_share_it(self):
        frame = self.frame()
        found = sizes_of(frame=frame, same=frame, lazy=frame.copy(deep=False), column=frame["x"], copy=frame.copy())
        assert found["same"].whole_held_by
        assert found["lazy"].size_bytes + found["column"].size_bytes < 64 << 10
        assert "frame" in found["lazy"].whole_held_by
        assert found["copy"].size_bytes > 2 * MIB
        # Copies of columns of objects and of Arrow's strings hold the same objects.
        assert "frame" in found["copy"].part_held_by

    def test_the_same_string_counts_once(self):
        series = self.pd.Series(["x" * MIB] * 100, dtype=object)
        assert sizes_of(series=series)["series"].size_bytes == is_about(MIB)
        assert series.memory_usage(deep=True) > 99 * MIB

    def test_the_look_up_table_of_an_index(self):
        frame = self.pd.DataFrame({"x": self.np.arange(200_000.0)}, index=self.np.arange(200_000)[::-1] * 3)
        before = sizes_of(frame=frame)["frame"].size_bytes
        frame.loc[33]
        grown = sizes_of(frame=frame)["frame"].size_bytes - before
        assert grown == is_about(frame.index._engine.sizeof())
        assert grown > 2 * MIB

    def test_categories(self):
        series = self.pd.Series(["a" * 100, "b" * 100] * 500_000).astype("category")
        assert sizes_of(series=series)["series"].size_bytes == is_about(1_000_000)


class TestPyarrow:
    pa = Lazily("pyarrow")
    np = Lazily("numpy")

    def test_a_table_and_its_parts(self):
        table = self.pa.table({"x": self.np.arange(500_000.0), "s": [str(number) for number in range(500_000)]})
        found = sizes_of(table=table, part=table.slice(100, 5), column=table["x"], chunk=table["s"].chunk(0))
        assert found["table"].size_bytes == is_about(table.get_total_buffer_size())
        assert sum(size.size_bytes for size in found.values()) == is_about(table.get_total_buffer_size())
        assert "table" in found["part"].whole_held_by

    def test_a_batch_a_buffer_and_a_dictionary(self):
        batch = self.pa.record_batch({"x": self.pa.array(range(500_000))})
        buffer = self.pa.allocate_buffer(8 * MIB)
        encoded = self.pa.array(["x" * 200_000, "y"] * 10).dictionary_encode()
        found = sizes_of(batch=batch, buffer=buffer[10:20], encoded=encoded)
        assert found["batch"].size_bytes == is_about(4_000_000)
        assert found["buffer"].size_bytes == is_about(8 * MIB)
        assert 200_000 < found["encoded"].size_bytes < 400_000

    def test_arrays_of_numpy_without_a_copy(self):
        numbers = self.np.arange(500_000.0)
        array = self.pa.array(numbers)
        found = sizes_of(array=array, numbers=numbers, back=array.to_numpy())
        assert sum(size.size_bytes for size in found.values()) == is_about(4_000_000)


class TestPolars:
    pl = Lazily("polars")
    np = Lazily("numpy")

    #: Two columns of 8 bytes, one of views of 16, and the text, for which buffers are allocated with some room.
    FRAME_BYTES = 200_000 * (8 + 8 + 16 + 28)

    def frame(self):
        texts = [f"a text of some length {number:06}" for number in range(200_000)]
        return self.pl.DataFrame({"x": self.np.arange(200_000.0), "s": texts, "n": range(200_000)})

    def test_a_frame_is_as_large_as_its_buffers(self):
        frame = self.frame()
        assert sizes_of(frame=frame)["frame"].size_bytes == is_about(self.FRAME_BYTES, 0.05)
        assert frame.estimated_size() < 0.8 * self.FRAME_BYTES, "polars leaves the views out"

    def test_frames_of_the_same_columns_share_them(self):
        frame = self.frame()
        found = sizes_of(frame=frame, same=frame.clone(), part=frame.select("x"), column=frame["s"])
        assert found["frame"].size_bytes == is_about(self.FRAME_BYTES, 0.05)
        assert found["same"].size_bytes + found["part"].size_bytes + found["column"].size_bytes < 64 << 10
        assert "frame" in found["same"].whole_held_by

    def test_other_types_are_estimated(self):
        series = self.pl.Series([["a" * 100, "b"]] * 50_000)
        found = sizes_of(series=series)["series"]
        assert found.size_bytes == is_about(series.estimated_size())
        assert found.note == "partly polars' estimate"


@pytest.mark.skipif(
    sys.version_info[:2] != (3, 11) or sys.platform != "linux", reason="the CPU build of torch is for 3.11 on Linux"
)
class TestTorch:
    @pytest.fixture(autouse=True)
    def _torch(self):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # some other library's, at import
            self.torch = importlib.import_module("torch")

    def test_views_share_the_storage(self):
        tensor = self.torch.ones(1024, 1024)
        found = sizes_of(tensor=tensor, row=tensor[3], numbers=tensor.numpy(), copy=tensor.clone())
        assert found["tensor"].size_bytes == found["copy"].size_bytes == is_about(4 * MIB)
        assert found["row"].size_bytes + found["numbers"].size_bytes < 4096
        assert set(found["row"].whole_held_by) == {"tensor", "numbers"}

    def test_a_model_with_its_gradients(self):
        model = self.torch.nn.Sequential(self.torch.nn.Linear(1024, 1024), self.torch.nn.Linear(1024, 1024))
        assert sizes_of(model=model)["model"].size_bytes == is_about(8 * MIB, 0.1)
        model(self.torch.ones(1, 1024)).sum().backward()
        assert sizes_of(model=model)["model"].size_bytes == is_about(16 * MIB, 0.1)

    @pytest.mark.filterwarnings("ignore")  # sparse layouts are a beta
    def test_sparse_tensors(self):
        places = self.torch.arange(200_000).repeat(2, 1)
        pairs = self.torch.sparse_coo_tensor(places, self.torch.ones(200_000), (200_000, 200_000))
        found = sizes_of(pairs=pairs, rows=pairs.to_sparse_csr())
        assert found["pairs"].size_bytes == is_about(200_000 * (8 + 8 + 4))
        assert found["rows"].size_bytes >= 200_000 * (8 + 8 + 4)

    def test_a_subclass_does_not_get_to_run_its_own_functions(self):
        called = []

        class Nosy(self.torch.Tensor):
            @classmethod
            def __torch_function__(cls, *arguments, **options):
                called.append(arguments)
                return super().__torch_function__(*arguments, **options)

        tensor = self.torch.ones(MIB).as_subclass(Nosy)
        called.clear()
        assert sizes_of(tensor=tensor)["tensor"].size_bytes == is_about(4 * MIB)
        assert called == []

    def test_a_tensor_without_memory_is_no_error(self):
        assert sizes_of(meta=self.torch.ones(MIB, device="meta"))["meta"].note.startswith("4.0 MiB on meta")


class TestIgraph:
    igraph = Lazily("igraph")

    def test_a_graph_is_as_large_as_the_memory_it_took(self):
        self.igraph.Graph.Ring(1000)
        gc.collect()
        before = psutil.heap_info()
        graph = self.igraph.Graph.Ring(3_000_000)
        after = psutil.heap_info()
        taken = after.heap_used + after.mmap_used - before.heap_used - before.mmap_used
        found = sizes_of(graph=graph)["graph"]
        assert found.size_bytes == is_about(taken, 0.1)
        assert found.note == "estimated from vertices and edges"

    def test_attributes_count_and_names_are_shared(self):
        graph = self.igraph.Graph.Ring(1000)
        graph.vs["text"] = ["x" * (10_000 + number) for number in range(1000)]
        found = sizes_of(graph=graph, same=graph, vertices=graph.vs)
        assert found["graph"].size_bytes == is_about(10_500_000)
        assert "same" in found["graph"].whole_held_by


class TestScipy:
    scipy = Lazily("scipy.sparse")

    @pytest.mark.parametrize("form", ["csr", "csc", "coo", "lil", "dok", "bsr"])
    def test_every_form_of_a_sparse_matrix(self, form):
        matrix = self.scipy.random(2000, 2000, density=0.02, format=form)
        found = sizes_of(matrix=matrix, same=matrix)
        assert found["matrix"].size_bytes > 80_000 * 8
        assert found["same"].size_bytes == 0

    def test_the_arrays_of_a_matrix(self):
        matrix = self.scipy.random(2000, 2000, density=0.05, format="csr")
        expected = matrix.data.nbytes + matrix.indices.nbytes + matrix.indptr.nbytes
        found = sizes_of(matrix=matrix, values=matrix.data)
        assert sum(size.size_bytes for size in found.values()) == is_about(expected)
        assert found["matrix"].part_held_by == ("values",)


def test_another_version_of_a_library_is_no_error(monkeypatch):
    polars = importlib.import_module("polars")
    frame = polars.DataFrame({"x": [1]})
    monkeypatch.delattr(polars.DataFrame, "get_columns")
    assert sizes_of(frame=frame)["frame"].note == "its data could not be read: AttributeError"
