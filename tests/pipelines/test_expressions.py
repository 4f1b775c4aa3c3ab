"""Arithmetic gives what arithmetic gives; nothing else runs."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.expressions import evaluate, names_in

NAMES = {"speed": 30.0, "angle": 5.0, "inlet.speed": 2.0, "axes_0": 0.5}


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("0.5 * speed**2", 450.0),
        ("speed * angle / 2", 75.0),
        ("-sin(radians(angle))", -math.sin(math.radians(5))),
        ("inlet.speed + axes_0", 2.5),
        ("min(speed, angle, 1) - max(2, 3)", -2.0),
        ("2 ** -1 ** 2", 0.5),
        ("(1 + 2) * pi", 3 * math.pi),
        ("1e-4", 1e-4),
        ("1", 1.0),
        (2.5, 2.5),
    ],
)
def test_value(expression, value):
    assert evaluate(expression, NAMES) == pytest.approx(value, rel=1e-15)


@given(a=st.floats(-1e3, 1e3), b=st.floats(0.1, 1e3))
@settings(deadline=None, max_examples=50)
def test_it_is_python_s_arithmetic(a, b):
    assert evaluate("a * b - a / b + (a + b)**2", {"a": a, "b": b}) == a * b - a / b + (a + b) ** 2


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("sped * 2", r"'sped \* 2': there is no 'sped', did you mean 'speed'\? known names: angle, axes_0"),
        ("quantity", "there is no 'quantity'; known names"),
        ("speed speed", "is not an arithmetic expression"),
        ("", "is not an arithmetic expression"),
        ("__import__('os').system('true')", "is not a function"),
        ("speed.__class__", "there is no 'speed.__class__'"),
        ("[1, 2][0]", "is not arithmetic"),
        ("speed if angle else 1", "is not arithmetic"),
        ("speed == 30", "is not arithmetic"),
        ("'30'", "is not a number"),
        ("True", "is not a number"),
        ("speed // 7", "is not arithmetic"),
        ("exec(speed)", "'exec' is not a function; there are: sin"),
        ("min(*speed)", "is not arithmetic"),
        ("1 / 0", "has no real value"),
        ("(-1) ** 0.5", "has no real value"),
        ("log(0 - 1)", "math domain|must be"),
        ("9.0**9**9**9", "has no real value"),
        ("sin()", "has no real value"),
        ("1e400", "is inf, not a finite number"),
        ("(" * 500 + "1" + ")" * 500, "is not an arithmetic expression"),
    ],
)
def test_refusals(expression, message):
    with pytest.raises(ValueError, match=message):
        evaluate(expression, NAMES)


def test_names_an_expression_needs():
    assert names_in("0.5 * speed**2 * cos(radians(inlet.angle)) + pi") == {"speed", "inlet.angle"}
    assert names_in(3.0) == set()
    with pytest.raises(ValueError, match="is not an arithmetic expression"):
        names_in("speed *")
