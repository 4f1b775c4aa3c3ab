"""Fragments compose in order, overrides win, and what cannot be composed is said with file and place."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.composition import compose, config_roots, parse, to_flow, to_yaml
from pipelines.settings import ConfigError


@pytest.fixture
def write(tmp_path):
    def write(name, text):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    return write


def test_later_fragments_win_and_the_file_wins_over_them(write):
    write("a.yaml", "training: {steps: 1, seed: 1}\n")
    write("deep/b.yaml", "training: {steps: 2}\ndata: {x: [1, 2]}\n")
    path = write("c.yaml", "extends: [a, deep/b.yaml]\ntraining: {warmup: 3}\ndata: {x: [3]}\n")
    assert compose(path) == {"training": {"steps": 2, "seed": 1, "warmup": 3}, "data": {"x": [3]}}


def test_fragments_extend_fragments_beside_themselves(write):
    write("deep/inner.yaml", "a: {b: 1}\n")
    write("deep/outer.yaml", "extends: inner\na: {c: 2}\n")
    assert compose(write("top.yaml", "extends: [deep/outer]\n")) == {"a": {"b": 1, "c": 2}}


def test_fragments_that_ship_are_found_from_anywhere(write):
    assert compose(write("mine.yaml", "extends: [training/cpu]\n"))["training"]["batch"] == 1


@pytest.mark.parametrize("name", ["stokes", "experiments/stokes", "stokes.yaml", "experiments/stokes.yaml"])
def test_shipped_experiments_are_found_by_name(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert compose(name)["operator"]["kind"] == "ab_upt"


def test_a_file_of_ones_own_wins_over_a_shipped_name(write, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write("stokes", "data: {x: 1}\n")
    assert compose("stokes") == {"data": {"x": 1}}


def test_another_kind_drops_the_settings_of_the_old(write):
    write("a.yaml", "loss: {kind: huber, delta: 2, inner: {x: 1}}\n")
    assert compose(write("b.yaml", "extends: a\nloss: {kind: mse}\n")) == {"loss": {"kind": "mse"}}
    assert compose(write("c.yaml", "extends: a\nloss: {kind: huber, w: 1}\n"))["loss"]["delta"] == 2


def test_null_removes_a_section_but_sets_a_value(write):
    path = write("a.yaml", "a: {b: {c: 1}, d: 2}\n")
    assert compose(path, ["a.b=null", "a.d=null"]) == {"a": {"d": None}}
    assert compose(write("b.yaml", "extends: a\na: {b: null}\n")) == {"a": {"d": 2}}


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["a.b=3"], {"a": {"b": 3, "kind": "x"}}),
        (["a.b=1e-4"], {"a": {"b": 1e-4, "kind": "x"}}),
        (["a.new.deep=[1, two]"], {"a": {"b": 1, "kind": "x", "new": {"deep": [1, "two"]}}}),
        (["a.b={c: 1}"], {"a": {"b": {"c": 1}, "kind": "x"}}),
        (["a={c: 1}"], {"a": {"c": 1}}),
        (["a.b=2", "a.b=3"], {"a": {"b": 3, "kind": "x"}}),
        (["a.c=5", "a.kind=y"], {"a": {"kind": "y", "c": 5}}),
        (["a.kind=y", "a.c=5"], {"a": {"kind": "y", "c": 5}}),
        (["a.b=x=y"], {"a": {"b": "x=y", "kind": "x"}}),
        (["a.b="], {"a": {"b": None, "kind": "x"}}),
    ],
)
def test_overrides(write, overrides, expected):
    assert compose(write("a.yaml", "a: {b: 1, kind: x}\n"), overrides) == expected


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["a"], r"override 'a' should be key\.path=value"),
        (["a..b=1"], r"should be key\.path=value"),
        (["=1"], r"should be key\.path=value"),
        (["a.b.c=1"], r"override 'a\.b\.c=1': a\.b is 1, which has no keys"),
        (["a.n=1", "a.n.c=2"], r"override 'a\.n\.c=2': a\.n is 1, which has no keys"),
        (["a.b=[1,"], r"override 'a\.b=\[1,', line 1, column 4 is not YAML"),
    ],
)
def test_impossible_overrides(write, overrides, message):
    with pytest.raises(ConfigError, match=message):
        compose(write("a.yaml", "a: {b: 1}\n"), overrides)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: [1, 2\nc: 3\n", r"bad\.yaml, line 3, column 2 is not YAML"),
        ("a: 1\na: 2\n", r"bad\.yaml, line 2, column 1 is not YAML: key 'a' stands twice"),
        ("1: 2\n", r"line 1, column 1 is not YAML: key 1 is not a text"),
        ("- a\n", r'should hold sections such as data and training, got \["a"\]'),
        ("extends: {a: 1}\n", "extends should be a list of names"),
        ("extends: [data/ahmad]\n", r"extends 'data/ahmad', which is not .*; did you mean data/ahmed\?"),
        ("a: !!python/object/apply:os.system ['true']\n", "is not YAML: could not determine a constructor"),
    ],
)
def test_bad_files(write, text, message):
    with pytest.raises(ConfigError, match=message):
        compose(write("bad.yaml", text))


def test_a_circle_is_shown(write):
    write("b.yaml", "extends: a\n")
    with pytest.raises(ConfigError, match=r"in a circle: .*a\.yaml → .*b\.yaml → .*a\.yaml"):
        compose(write("a.yaml", "extends: b\n"))


def test_an_unknown_name_lists_what_ships():
    with pytest.raises(ConfigError, match=r"nothing_here is neither a file nor .* \(ahmed, airfoil, stokes\)"):
        compose("nothing_here")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-4", 1e-4), ("1E5", 1e5), (".5", 0.5), ("-2.", -2.0), ("+3", 3), ("010", 10), ("0x1F", 31), ("0o17", 15),
        ("-.inf", -float("inf")), ("true", True), ("False", False), ("null", None), ("~", None), ("", None),
        ("yes", "yes"), ("on", "on"), ("y", "y"), ("1:30", "1:30"), ("2024-01-01", "2024-01-01"), ("1_000", "1_000"),
        ("m²/s²", "m²/s²"), ("0.5 * speed**2", "0.5 * speed**2"), ("'1'", "1"), ("e5", "e5"), (".", "."), ("-", [None]),
    ],
)  # fmt: skip
def test_plain_values_are_those_of_yaml_1_2(text, value):
    assert parse(text, "here") == value
    assert type(parse(text, "here")) is type(value)


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8)
    | st.sampled_from(["1e-4", "yes", "1:30", "null", "", "~", "0x1", "2024-01-01", ".inf", "<<", "010"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(min_size=1, max_size=5), inner, max_size=3),
    max_leaves=8,
)  # fmt: skip


@settings(deadline=None, max_examples=50)
@given(tree=st.dictionaries(st.text("abc<", min_size=1, max_size=3), PLAIN, max_size=4))
def test_what_is_written_reads_back(tree):
    assert parse(to_yaml(tree), "here") == tree if tree else True
    assert parse(to_flow(tree), "here") == tree
    assert len(to_flow(list(tree.values())).splitlines()) == 1


def test_configurations_ship():
    for root in config_roots():
        assert {path.name for path in root.iterdir()} >= {"operators", "data", "training", "experiments"}
