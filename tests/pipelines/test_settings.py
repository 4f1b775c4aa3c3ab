"""Reading is strict, round-trips, and says where it stopped."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import pytest

from pipelines.settings import ConfigError, read, to_dict


@dataclass(frozen=True, kw_only=True)
class Round:
    kind: Literal["round"] = "round"
    radius: float = 1.0

    def __post_init__(self) -> None:
        if self.radius <= 0:
            raise ValueError(f"radius is {self.radius}; it must be positive")


@dataclass(frozen=True, kw_only=True)
class Square:
    kind: Literal["square"] = "square"
    side: int


@dataclass(frozen=True, kw_only=True)
class Piece:
    unit: str
    also: tuple[str, ...] | None = None


@dataclass(frozen=True, kw_only=True)
class Whole:
    """All kinds of settings.

    Attributes:
        mode: how fast it goes: `slow` is surer, and right
            wherever somebody waits for nothing.
        shape: outline.
    """

    name: str
    count: int = 1
    ratio: float = 0.5
    on: bool = False
    where: Path = Path("here")
    shape: Round | Square = field(default_factory=Round)
    marked: Annotated[Round | Square | None, "note"] = None
    pieces: dict[str, Piece] = field(default_factory=dict)
    several: tuple[Piece, ...] = ()
    pair: tuple[float, float] = (0.0, 1.0)
    number: float | str = 1.0
    counts: int | dict[str, int] = 3
    mode: Literal["fast", "slow"] = "fast"


FULL = {
    "name": "a",
    "count": 2,
    "ratio": 1,
    "on": True,
    "where": "there/x",
    "shape": {"kind": "square", "side": 3},
    "marked": {"kind": "round", "radius": 2.5},
    "pieces": {"p": {"unit": "m"}, "q": {"unit": "s", "also": ["x", "y"]}},
    "several": [{"unit": "kg"}],
    "pair": [1, 2.5],
    "number": "2 * speed",
    "counts": {"surface": 4},
    "mode": "slow",
}


def test_everything_reads_and_reads_back():
    whole = read(Whole, FULL, "whole")
    assert whole == Whole(
        name="a",
        count=2,
        ratio=1.0,
        on=True,
        where=Path("there/x"),
        shape=Square(side=3),
        marked=Round(radius=2.5),
        pieces={"p": Piece(unit="m"), "q": Piece(unit="s", also=("x", "y"))},
        several=(Piece(unit="kg"),),
        pair=(1.0, 2.5),
        number="2 * speed",
        counts={"surface": 4},
        mode="slow",
    )
    assert isinstance(whole.ratio, float)
    assert read(Whole, to_dict(whole), "whole") == whole


def test_defaults_are_those_of_the_dataclass():
    assert read(Whole, {"name": "a"}, "whole") == Whole(name="a")


def test_a_union_takes_its_first_kind_when_none_is_told():
    assert read(Whole, {"name": "a", "shape": {"radius": 2}}, "whole").shape == Round(radius=2.0)


@pytest.mark.parametrize(("value", "text"), [(1, "1"), (9.81, "9.81"), ("m", "m")])
def test_a_number_is_a_text_where_only_texts_are_expected(value, text):
    assert read(Piece, {"unit": value, "also": [value, "x"]}, "piece") == Piece(unit=text, also=(text, "x"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"nam": 1}, r"whole\.nam is not a setting; did you mean name\?"),
        ({"zzzzz": 1}, r"whole\.zzzzz is not a setting; there are: name, count"),
        ({"count": 1.5}, r"whole\.count should be a whole number; got 1\.5"),
        ({"count": "3"}, r'whole\.count should be a whole number; got "3"'),
        ({"count": True}, r"whole\.count should be a whole number; got true"),
        ({"count": None}, r"whole\.count should be a whole number; got null"),
        ({"ratio": "big"}, r'whole\.ratio should be a number; got "big"'),
        ({"on": 1}, r"whole\.on should be true or false; got 1"),
        ({"name": ["a"]}, r'whole\.name should be a text; got \["a"\]'),
        ({"name": True}, r"whole\.name should be a text; got true"),
        ({"mode": "fats"}, r'whole\.mode should be fast or slow; got "fats"; did you mean fast\?'),
        ({"shape": {"kind": "sqare", "side": 1}}, r'whole\.shape\.kind: "sqare" is not one of round, square; did you'),
        ({"shape": {"kind": "square"}}, r"whole\.shape needs side"),
        ({"shape": {"kind": "square", "side": 1, "radius": 2}}, r"whole\.shape\.radius is not a setting"),
        ({"shape": {"radius": -1}}, r"whole\.shape: radius is -1\.0; it must be positive"),
        ({"shape": 3}, r"whole\.shape should be a section with kind, radius; got 3"),
        ({"pieces": {"p": {"unt": "m"}}}, r"whole\.pieces\.p\.unt is not a setting; did you mean unit\?"),
        ({"pieces": [1]}, r"whole\.pieces should be a section"),
        ({"several": [{"unit": "m"}, {}]}, r"whole\.several\[1\] needs unit"),
        ({"pair": [1]}, r"whole\.pair should be a list of 2: a number, a number; got \[1\]"),
        ({"counts": {"a": "b"}}, r"whole\.counts should be a whole number or a section"),
        ({"pieces": {"p": {"unit": "UNKNOWN"}}}, r"whole\.pieces\.p\.unit is still UNKNOWN"),
        ({"pieces": {"p": {"unit": "m", "also": ["x", "UNKNOWN"]}}}, r"whole\.pieces\.p\.also\[1\] is still UNKNOWN"),
    ],
)
def test_refusals(change, message):
    with pytest.raises(ConfigError, match=message):
        read(Whole, {"name": "a", **change}, "whole")


def test_every_unknown_is_named_with_what_to_choose_from():
    shape = {"kind": "square", "side": "UNKNOWN"}
    with pytest.raises(ConfigError) as refusal:
        read(Whole, {"name": "UNKNOWN", "mode": "UNKNOWN", "shape": shape, "pair": [1, "UNKNOWN"]}, "whole")
    first, *lines = str(refusal.value).splitlines()
    assert first.startswith("4 settings are still UNKNOWN")
    assert lines == [
        "  whole.name: a text",
        "  whole.mode: fast or slow; how fast it goes: `slow` is surer, and right wherever somebody waits for nothing",
        "  whole.shape.side: a whole number",
        "  whole.pair[1]: a number",
    ]


def test_what_is_missing_is_named():
    with pytest.raises(ConfigError, match="whole needs name"):
        read(Whole, {}, "whole")
