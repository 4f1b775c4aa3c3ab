"""Cases are found by name, numbers by file, column or path, and splits never share a case."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.parameters import read_parameters, read_texts
from pipelines.settings import ConfigError, read
from pipelines.sources import (
    BranchSource,
    DataConfig,
    FileSplits,
    FractionSplits,
    NamedSplits,
    ParameterSource,
    RawCase,
    find_cases,
)

NAMES = [f"case_{number:02d}" for number in range(20)]


def same(names: list[str]) -> dict[str, str]:
    return {name: name for name in names}


@given(
    geometries=st.lists(st.integers(0, 8), min_size=4, max_size=40),
    validation=st.floats(0, 0.45),
    test=st.floats(0, 0.45),
    seed=st.integers(0, 5),
)
@settings(deadline=None, max_examples=60)
def test_lots_keep_geometries_together_and_give_every_case_one_split(geometries, validation, test, seed):
    cases = {f"case_{number:02d}": str(geometry) for number, geometry in enumerate(geometries)}
    drawn = FractionSplits(validation=validation, test=test, seed=seed)
    groups = len(set(cases.values()))
    if sum(max(1, round(part * groups)) for part in (validation, test) if part) >= groups:
        with pytest.raises(ConfigError, match="for training"):
            drawn.assign(cases)
        return
    splits = drawn.assign(cases)
    assert sorted(name for names in splits.values() for name in names) == sorted(cases)
    where = {}
    for split, names in splits.items():
        for name in names:
            assert where.setdefault(cases[name], split) == split


def test_lots_have_the_size_asked_for_and_stay_as_cases_are_added():
    drawn = FractionSplits(validation=0.1, test=0.2)
    splits = drawn.assign(same(NAMES))
    assert {split: len(names) for split, names in splits.items()} == {"training": 14, "validation": 2, "test": 4}
    assert drawn.assign(same(NAMES)) == splits
    assert FractionSplits(validation=0.1, test=0.2, seed=1).assign(same(NAMES)) != splits
    one_more = drawn.assign(same([*NAMES, "case_99"]))
    assert len(set(one_more["test"]) - set(splits["test"])) <= 1


def test_names_and_patterns():
    splits = NamedSplits(validation=("case_0[12]",), test=("case_1?", "case_05")).assign(same(NAMES))
    assert splits["validation"] == ["case_01", "case_02"]
    assert splits["test"] == ["case_05", *NAMES[10:]]
    assert splits["training"] == ["case_00", "case_03", "case_04", "case_06", "case_07", "case_08", "case_09"]


@pytest.mark.parametrize(
    ("splits", "message"),
    [
        (NamedSplits(test=("cas_01",)), "'cas_01' of test fits no case; did you mean case_01?"),
        (NamedSplits(validation=("case_01",), test=("case_0*",)), "case 'case_01' is in both validation and test"),
        (NamedSplits(test=("case_*",)), "leaves none of 20 cases for training"),
        (FileSplits(file="nowhere.json"), "nowhere.json cannot be read"),
    ],
)
def test_splits_that_cannot_be(splits, message):
    with pytest.raises(ConfigError) as error:
        splits.assign(same(NAMES))
    assert message in str(error.value)


def test_splits_from_a_file(tmp_path):
    path = tmp_path / "splits.json"
    path.write_text(json.dumps({"training": ["case_00"], "test": ["case_1*"]}))
    splits = FileSplits(file=str(path)).assign(same(NAMES))
    assert splits == {"training": NAMES[:10], "validation": [], "test": NAMES[10:]}
    path.write_text(json.dumps({"tests": []}))
    with pytest.raises(ConfigError, match="should hold lists of names under training, validation, test"):
        FileSplits(file=str(path)).assign(same(NAMES))


def test_fractions_must_leave_something():
    with pytest.raises(ValueError, match="leave some geometries for training"):
        FractionSplits(validation=0.5, test=0.5)


@pytest.fixture
def cases(tmp_path) -> Path:
    for name in ("b", "a"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "surface.vtp").touch()
        (tmp_path / f"{name}.vtu").touch()
    return tmp_path


def test_folders_and_files_are_cases(cases):
    found = find_cases(f"{cases}/[ab]")
    assert [(case.name, case.folder, case.path) for case in found] == [
        (name, cases / name, cases / name) for name in "ab"
    ]
    files = find_cases(f"{cases}/*.vtu")
    assert [(case.name, case.folder) for case in files] == [("a", cases), ("b", cases)]
    assert files[0].file("{name}.vtu") == cases / "a.vtu"
    assert found[0].file("surf*.vtp") == cases / "a" / "surface.vtp"


def test_cases_that_are_not_there_or_not_told_apart(cases, monkeypatch):
    monkeypatch.chdir(cases)
    with pytest.raises(ConfigError, match=r"data\.cases: nothing fits 'x_\*', seen from "):
        find_cases("x_*")
    with pytest.raises(ConfigError, match="are both called 'surface'"):
        find_cases("*/surface.vtp")


def test_files_that_are_not_there(cases):
    case = find_cases(f"{cases}/a")[0]
    with pytest.raises(FileNotFoundError, match=r"surfaces\.vtp is not there; the folder holds surface\.vtp; did you"):
        case.file("surfaces.vtp")
    with pytest.raises(FileNotFoundError, match=r"no file in .* fits '\*\.vtm'"):
        case.file("*.vtm")
    (case.folder / "surface_2.vtp").touch()
    with pytest.raises(ValueError, match=r"2 files in .* one was expected"):
        case.file("*.vtp")


def parameters(folder: Path, **source) -> dict[str, float]:
    return read_parameters(RawCase(folder.name, folder, folder), ParameterSource(**source))


def test_json_is_flattened_and_texts_left_out(tmp_path):
    content = {"speed": 30, "ok": True, "note": "fast", "inlet": {"angle": 1.5}, "axes": [1, [2, 3]], "none": None}
    (tmp_path / "case.json").write_text(json.dumps(content))
    assert parameters(tmp_path, file="case.json") == {
        "speed": 30.0, "inlet.angle": 1.5, "axes_0": 1.0, "axes_1_0": 2.0, "axes_1_1": 3.0,
    }  # fmt: skip


def test_yaml_reads_like_json(tmp_path):
    (tmp_path / "case.yml").write_text("inlet: {speed: 1e1, note: fast}\nangles: [1, 2]\nunit: m\n", encoding="utf-8")
    assert parameters(tmp_path, file="case.yml") == {"inlet.speed": 10.0, "angles_0": 1.0, "angles_1": 2.0}
    assert read_texts(tmp_path / "case.yml") == {"unit": "m"}
    (tmp_path / "case.yml").write_text("[1, 2]", encoding="utf-8")
    with pytest.raises(ValueError, match="should hold one object with names and numbers, got list"):
        parameters(tmp_path, file="case.yml")


def test_csv_of_one_case_needs_no_names(tmp_path):
    (tmp_path / "geo_7.csv").write_text("Run, length,width\n7,4.5,1.8\n", encoding="utf-8")
    assert parameters(tmp_path, file="geo_*.csv") == {"Run": 7.0, "length": 4.5, "width": 1.8}
    assert read_texts(tmp_path / "geo_7.csv") == {}


def test_csv_of_all_cases(tmp_path):
    folder = tmp_path / "run_2"
    folder.mkdir()
    table = tmp_path / "cases.csv"
    table.write_text("\ufeffname,speed,note\nrun_1,10,x\nrun_2,20,y\n", encoding="utf-8")
    assert parameters(folder, file=str(table)) == {"speed": 20.0}
    with pytest.raises(
        ValueError, match=r"has no column 'case'; it has name, speed, note\. Set parameters.name_column"
    ):
        parameters(folder, file=str(table), name_column="case")
    table.write_text("name,speed\nrun_1,10\n")
    with pytest.raises(ValueError, match="has 0 rows where name is 'run_2'"):
        parameters(folder, file=str(table))


def test_the_path_tells_and_the_file_wins(tmp_path):
    folder = tmp_path / "U12.5_a-3"
    folder.mkdir()
    pattern = r"U(?P<speed>[0-9.]+)_a(?P<angle>-?[0-9]+)$"
    assert parameters(folder, pattern=pattern, values={"angle": 9.0, "density": 1.2}) == {
        "angle": -3.0, "density": 1.2, "speed": 12.5,
    }  # fmt: skip
    (folder / "case.json").write_text('{"speed": 13}')
    assert parameters(folder, pattern=pattern, file="case.json")["speed"] == 13
    with pytest.raises(ValueError, match="does not fit"):
        parameters(tmp_path, pattern=pattern)


@pytest.mark.parametrize(
    ("text", "message"), [("{", "is not JSON"), ("[1]", "should hold one object with names and numbers, got list")]
)
def test_bad_parameter_files(tmp_path, text, message):
    (tmp_path / "case.json").write_text(text)
    with pytest.raises(ValueError, match=message):
        parameters(tmp_path, file="case.json")


@pytest.mark.parametrize(
    ("pattern", "message"), [("(?P<speed", "is no regular expression"), ("U([0-9]+)", "names no parameter")]
)
def test_bad_patterns(pattern, message):
    with pytest.raises(ValueError, match=message):
        ParameterSource(pattern=pattern)


SURFACE = {"file": "s.vtp", "kind": "surface", "fields": {"pressure": {"array": "p", "unit": "Pa"}}}
VOLUME = SURFACE | {"kind": "volume"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"space": ["y", "x"]}, "expected [x, y, z], or two of them in this order"),
        ({"branches": {}}, "branches is empty"),
        ({"branches": {"geometry": SURFACE}}, "cannot be called 'geometry'"),
        ({"branches": {"volume": VOLUME}}, "geometry is null and no branch is a surface"),
        ({"space": ["x", "z"], "conventions": {"symmetry": "y"}}, "symmetry is y, which is not an axis of space"),
        ({"branches": {"s": SURFACE | {"fields": {}}}}, "fields is empty; name at least one"),
        ({"branches": {"s": SURFACE | {"fields": {"normal": {"array": "p", "unit": "1"}}}}}, "names a place"),
    ],
)
def test_data_that_cannot_be(change, message):
    with pytest.raises(ConfigError) as error:
        read(DataConfig, {"store": "s", "cases": "c", "branches": {"surface": SURFACE}} | change, "data")
    assert message in str(error.value)


def test_surface_alone_is_ordinary():
    config = read(DataConfig, {"store": "s", "cases": "c", "branches": {"surface": SURFACE}}, "data")
    assert config.surfaces == ["surface"]
    assert isinstance(config.branches["surface"], BranchSource)
    assert config.axes == (0, 1, 2)
