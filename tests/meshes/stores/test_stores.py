"""Whatever is written reads back; a block is a random subset; damage is found and named."""

import multiprocessing
import os
import pickle
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from small_cases import FREE_STREAM, SCALE, make_case

from meshes.fields import FieldSpec
from meshes.stores import StoredBranch, StoredField, StoreError, reader, write_case
from meshes.stores.layout import CHUNK, MANIFEST, permutation, read_json, write_json
from meshes.stores.reader import Store


@pytest.mark.parametrize("count", [1, 7, CHUNK // 2 + 3])
def test_every_array_reads_back(make_store, count):
    case, written = make_store({"a": count}).case("a"), make_case(count)
    for name, branch in written["branches"].items():
        read = case.read(name)
        index = permutation("a", name, case.count(name))
        for place in ("position", "measure", "normal", "distance"):
            values = getattr(branch, place)
            assert (values is None) == (place not in read)
            if values is not None:
                np.testing.assert_array_equal(read[place], values[index].astype(np.float32))
        for key, stored in branch.fields.items():
            np.testing.assert_array_equal(read[key], stored.values[index])
            scale, free_stream = case.scale(name, key)
            assert (scale, tuple(free_stream)) == (stored.scale, tuple(stored.offset()))
        source = np.arange(len(index)) if branch.source is None else branch.source
        np.testing.assert_array_equal(read["order"], source[index])
    vertices, triangles = case.geometry()
    np.testing.assert_array_equal(vertices, written["geometry"].vertices)
    np.testing.assert_array_equal(triangles, written["geometry"].triangles)
    assert (case.parameters, case.condition) == (written["parameters"], written["condition"])


def test_order_leads_back_to_the_source(make_store):
    case, written = make_store({"a": 50}).case("a"), make_case(50)
    read = case.read("surface", names=["order", "pressure"])
    back = np.empty_like(read["pressure"])
    back[read["order"]] = read["pressure"]
    np.testing.assert_array_equal(back, written["branches"]["surface"].fields["pressure"].values)


def test_blocks_are_parts_of_the_whole(make_store):
    case = make_store({"a": CHUNK}).case("a")
    whole = case.read("volume")
    for start, stop in ((0, 0), (0, 5), (CHUNK - 3, CHUNK + 4), (2 * CHUNK - 1, 2 * CHUNK)):
        for name, values in case.read("volume", start, stop).items():
            np.testing.assert_array_equal(values, whole[name][start:stop])


def test_the_shuffle_is_seeded_by_the_names():
    one = permutation("a", "surface", 1000)
    np.testing.assert_array_equal(one, permutation("a", "surface", 1000))
    assert not np.array_equal(one, permutation("b", "surface", 1000))
    assert not np.array_equal(one, permutation("a", "volume", 1000))
    np.testing.assert_array_equal(np.sort(one), np.arange(1000))
    # A block is spread over the source as a uniform sample is: 400 of 1000, mean within 4 standard errors.
    assert abs(one[:400].mean() - 499.5) < 4 * 1000 / np.sqrt(12 * 400)


def test_what_the_manifest_says(make_store):
    store = make_store({"b": 4, "a": 5})
    assert list(store) == ["b", "a"]
    assert (len(store), store.conditions, store.space) == (2, ("speed",), ("x", "y", "z"))
    assert store.fields["volume"]["velocity"] == FieldSpec(
        array="U", unit="m/s", kind="vector", free_stream=("speed", "0", "0")
    )
    assert store.kinds == {"surface": "surface", "volume": "volume"}
    assert store.case("a").count("surface") == 5
    assert store.case("a").count("elsewhere") == 0
    assert store.parameter_statistics["speed"].mean == pytest.approx(30.5)
    assert store.bounds["volume"].shape == (2, 3)
    assert store.cell_size == {"volume": 0.1}
    store.verify()


def test_float16_is_near_and_half_as_large(make_store):
    store = make_store({"a": 4000}, precision="float16")
    exact = make_case(4000)["branches"]["volume"].fields["velocity"].values
    read = store.case("a").read("volume", names=["order", "velocity"])
    assert read["velocity"].dtype == np.float32
    error = np.abs(read["velocity"] - exact[read["order"] // 3])
    assert error.max() < SCALE * 2**-10
    dataset = h5py.File(store.case("a").path, locking=False)["volume/fields/velocity"]
    assert dataset.dtype == np.float16


def test_float16_refuses_overflow(tmp_path):
    case = make_case(3)
    surface = case["branches"]["surface"]
    big = replace(surface, fields={"pressure": StoredField(values=np.full((3, 1), 7e4), scale=1.0)})
    with pytest.raises(StoreError, match=r"field pressure of surface reaches 7e\+04 .* give the field a scale"):
        write_case(tmp_path / "a.h5", **case | {"branches": {"surface": big}}, precision="float16")
    write_case(tmp_path / "a.h5", **case | {"branches": {"surface": big}})
    assert [path.name for path in tmp_path.iterdir()] == ["a.h5"]


@pytest.mark.parametrize("precision", ["float32", "float16"])
@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e300])
def test_bad_values_are_refused_and_leave_nothing(tmp_path, bad, precision):
    case = make_case(5)
    values = np.ones((5, 1))
    values[2] = bad
    surface = replace(case["branches"]["surface"], fields={"pressure": StoredField(values=values)})
    with pytest.raises(StoreError, match="a: field pressure of surface"):
        write_case(tmp_path / "a.h5", **case | {"branches": {"surface": surface}}, precision=precision)
    assert not list(tmp_path.iterdir())


def test_a_failed_write_keeps_the_old_file(tmp_path):
    write_case(tmp_path / "a.h5", **make_case(5))
    before = (tmp_path / "a.h5").read_bytes()
    short = StoredField(values=np.ones((2, 1)))
    surface = StoredBranch(position=np.ones((3, 3)), measure=np.ones(3), fields={"pressure": short})
    with pytest.raises(StoreError, match="2 rows for 3 points"):
        write_case(tmp_path / "a.h5", **make_case(5) | {"branches": {"surface": surface}})
    assert (tmp_path / "a.h5").read_bytes() == before


def test_a_field_cannot_take_the_name_of_a_place(tmp_path):
    surface = StoredBranch(
        position=np.ones((2, 3)), measure=np.ones(2), fields={"normal": StoredField(values=np.ones((2, 3)))}
    )
    with pytest.raises(StoreError, match="cannot be called 'normal'"):
        write_case(tmp_path / "a.h5", **make_case(5) | {"branches": {"surface": surface}})


def test_an_empty_branch_is_a_branch(tmp_path, make_store):
    make_store({"a": 3})
    nothing = StoredBranch(position=np.ones((0, 3)), measure=np.ones(0))
    write_case(tmp_path / "cases" / "a.h5", **make_case(3) | {"branches": {"surface": nothing}})
    with h5py.File(tmp_path / "cases" / "a.h5") as file:
        assert file["surface/position"].shape == (0, 3)


def test_a_truncated_file_is_named(make_store):
    store = make_store({"a": 100, "b": 100})
    path = store.case("a").path
    os.truncate(path, path.stat().st_size // 2)
    for check in (lambda: store.verify("a"), store.verify, lambda: store.case("a").read("surface")):
        with pytest.raises(StoreError, match=r"a\.h5 has \d+ bytes, the manifest says \d+: truncated .* prepare again"):
            check()
    store.verify("b")


def test_an_altered_byte_is_found(make_store):
    store = make_store({"a": 100})
    path = store.case("a").path
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(StoreError, match=r"a\.h5 was altered"):
        store.verify()


def test_a_file_of_the_right_size_that_is_no_hdf5(make_store):
    store = make_store({"a": 10})
    path = store.case("a").path
    path.write_bytes(b"x" * path.stat().st_size)
    with pytest.raises(StoreError, match="no whole HDF5 file"):
        store.case("a").read("surface")


def test_a_missing_file_is_named(make_store):
    store = make_store({"a": 10})
    store.case("a").path.unlink()
    with pytest.raises(StoreError, match=r"a\.h5 is missing"):
        store.case("a").read("surface")


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda store: store.case("c"), "no case 'c'; it has 1, such as a"),
        (lambda store: store.case("a").read("geometry"), "asked for|no branch"),
        (lambda store: store.case("a").read("volume", 0, 21), "volume has 20 points, asked for 0 to 21"),
        (lambda store: store.case("a").read("volume", names=["speed"]), "no speed; it has .*velocity"),
    ],
)
def test_what_is_not_there_is_said(make_store, ask, message):
    with pytest.raises(StoreError, match=message):
        ask(make_store({"a": 10}))


def test_a_folder_that_is_no_store(tmp_path):
    with pytest.raises(StoreError, match=r"holds no manifest\.json"):
        Store(tmp_path)
    (tmp_path / MANIFEST).write_text('{"format": 1, "cas')
    with pytest.raises(StoreError, match="not whole"):
        Store(tmp_path)


def test_a_newer_format_is_refused(make_store, tmp_path):
    make_store({"a": 3})
    write_json(tmp_path / MANIFEST, read_json(tmp_path / MANIFEST) | {"format": 99})
    with pytest.raises(StoreError, match="format 99; this version reads format 1"):
        Store(tmp_path)


def test_a_manifest_holds_no_nan(tmp_path):
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / MANIFEST, {"a": float("nan")})
    assert not list(tmp_path.iterdir())


def _first_positions(store: Store) -> bytes:
    return store.case("a").read("volume", 0, 10)["position"].tobytes()


@pytest.mark.parametrize("method", ["fork", "spawn"])
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_workers_read_what_the_parent_reads(make_store, method):
    store = make_store({"a": 200})
    expected = _first_positions(store)  # the parent has the file open before workers start
    with multiprocessing.get_context(method).Pool(2) as pool:
        assert pool.map(_first_positions, [store] * 4) == [expected] * 4
    assert _first_positions(store) == expected


def test_threads_share_a_store_with_few_files_open(make_store, monkeypatch):
    monkeypatch.setattr(reader, "OPEN_FILES", 2)
    store = make_store(dict.fromkeys("abcdef", 300))
    expected = {name: store.case(name).read("volume")["position"] for name in store}
    with ThreadPoolExecutor(4) as pool:
        names = list("abcdef" * 20)
        for name, read in zip(names, pool.map(lambda name: store.case(name).read("volume"), names), strict=True):
            np.testing.assert_array_equal(read["position"], expected[name])


def test_a_store_kept_in_memory_reads_the_same_and_without_its_files(make_store):
    store = make_store({"a": 300, "b": 200})
    size = sum(entry["bytes"] for entry in store.manifest["cases"].values())
    kept, streamed = Store(store.path, resident=size), Store(store.path, resident=size - 1)
    assert kept.fits_in_memory
    assert not streamed.fits_in_memory
    for name in store:
        expected = store.case(name).read("volume", 20, 90)
        for each in (kept, streamed, pickle.loads(pickle.dumps(kept))):
            read = each.case(name).read("volume", 20, 90)
            assert list(read) == list(expected)
            for key, values in expected.items():
                np.testing.assert_array_equal(read[key], values)
    with pytest.raises(ValueError, match="read-only"):
        kept.case("a").read("volume")["position"][0] = 0
    first = kept.case("a").read("volume", 20, 21)["position"]
    for name in store:
        store.case(name).path.unlink()
    np.testing.assert_array_equal(kept.case("a").read("volume", 20, 21)["position"], first)


def test_a_pickled_store_carries_its_path_alone(make_store):
    store = make_store({"a": 10})
    store.case("a").read("volume")
    assert len(pickle.dumps(store)) < 500
    assert pickle.loads(pickle.dumps(store)).manifest == store.manifest


def test_what_is_read_costs_what_was_asked_for(tmp_path, make_store):
    """A block of 16,384 points takes no longer from a large case than from a small one, but for a chunk more."""
    large = make_store({"a": 50 * CHUNK})
    case = large.case("a")
    case.read("volume", 0, CHUNK)
    times = []
    for start in range(5, 25 * CHUNK, CHUNK + 999):
        begin = time.perf_counter()
        case.read("volume", start, start + CHUNK, ["position", "velocity"])
        times.append(time.perf_counter() - begin)
    begin = time.perf_counter()
    case.read("volume", names=["position", "velocity"])
    whole = time.perf_counter() - begin
    assert np.median(times) < whole / 10


def test_free_stream_is_what_is_subtracted():
    field = make_case(20)["branches"]["volume"].fields["velocity"]
    np.testing.assert_allclose(field.non_dimensional() * SCALE + np.array(FREE_STREAM), field.values, rtol=1e-6)


def test_a_store_written_by_the_first_version_still_opens():
    """The files were written by `make_golden.py` when format 1 was new."""
    store = Store(Path(__file__).parent / "golden")
    store.verify()
    written = make_case(6)["branches"]["volume"]
    read = store.case("a").read("volume")
    np.testing.assert_array_equal(read["velocity"], written.fields["velocity"].values[read["order"] // 3])
    np.testing.assert_array_equal(read["position"], written.position[read["order"] // 3].astype(np.float32))
