"""Arithmetic that a configuration may hold, such as `0.5 * speed**2`; nothing else can run."""

import ast
import math
import operator
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from typing import Any

FUNCTIONS: dict[str, Callable[..., Any]] = {
    "sin": math.sin,
    "cos": math.cos,
    "tan": math.tan,
    "sqrt": math.sqrt,
    "exp": math.exp,
    "log": math.log,
    "abs": abs,
    "min": min,
    "max": max,
    "radians": math.radians,
    "degrees": math.degrees,
}
CONSTANTS = {"pi": math.pi}
_BINARY: dict[type[ast.operator], Callable[[float, float], float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: operator.pow,
}
_UNARY: dict[type[ast.unaryop], Callable[[float], float]] = {ast.UAdd: operator.pos, ast.USub: operator.neg}


def evaluate(expression: str | float, names: Mapping[str, float]) -> float:
    """Return the value of an arithmetic expression of named numbers.

    Numbers, names, `+ - * / **`, parentheses, `pi` and the functions `sin cos tan sqrt exp log abs min max radians
    degrees` are all there is; angles are in radians. A name may hold dots, as nested parameters do: `inlet.speed`.

    Args:
        expression: such as `size_y * size_z / 2`; a plain number is its own value.
        names: what the names stand for.

    Raises:
        ValueError: it is no such expression, a name is unknown, or the value is not a finite real number.
    """
    return _evaluate(_parse(expression), expression, names)


def names_in(expression: str | float) -> set[str]:
    """Return the names that an expression needs.

    Raises:
        ValueError: it is no arithmetic expression.
    """
    found: set[str] = set()

    def visit(node: ast.AST) -> None:
        name = _dotted(node)
        if name is not None:
            found.update({name} - CONSTANTS.keys())
            return
        children = node.args if isinstance(node, ast.Call) else ast.iter_child_nodes(node)
        for child in children:
            visit(child)

    visit(_parse(expression))
    return found


def _parse(expression: str | float) -> ast.expr:
    text = str(expression).strip()
    try:
        return ast.parse(text, mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise ValueError(f"{text!r} is not an arithmetic expression; write one such as 0.5 * speed**2") from error


def _evaluate(node: ast.expr, expression: str | float, names: Mapping[str, float]) -> float:
    try:
        value = _value(node, names)
        finite = math.isfinite(value)
    except (ArithmeticError, TypeError, RecursionError) as error:  # complex results are a TypeError of isfinite
        raise ValueError(f"{expression!r} has no real value: {error}") from error
    except ValueError as error:
        raise ValueError(f"{expression!r}: {error}") from error
    if not finite:
        raise ValueError(f"{expression!r} is {value}, not a finite number")
    return float(value)


def _value(node: ast.expr, names: Mapping[str, float]) -> float:
    match node:
        case ast.Constant(value=bool() | str() | bytes() | None):
            raise ValueError(f"{node.value!r} is not a number")
        case ast.Constant(value=int() | float() as value):
            return float(value)
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _BINARY:
            return _BINARY[type(op)](_value(left, names), _value(right, names))
        case ast.UnaryOp(op=op, operand=operand) if type(op) in _UNARY:
            return _UNARY[type(op)](_value(operand, names))
        case ast.Call(func=ast.Name(id=name), args=arguments, keywords=[]) if name in FUNCTIONS:
            return FUNCTIONS[name](*(_value(argument, names) for argument in arguments))
        case ast.Call():
            raise ValueError(f"{ast.unparse(node.func)!r} is not a function; there are: {', '.join(FUNCTIONS)}")
        case ast.Name() | ast.Attribute():
            return _named(ast.unparse(node), names)
    raise ValueError(f"{ast.unparse(node)!r} is not arithmetic; use numbers, names, + - * / ** and parentheses")


def _named(name: str, names: Mapping[str, float]) -> float:
    if name in names:
        return float(names[name])
    if name in CONSTANTS:
        return CONSTANTS[name]
    near = get_close_matches(name, names, n=1)
    hint = f", did you mean {near[0]!r}?" if near else ";"
    raise ValueError(f"there is no {name!r}{hint} known names: {', '.join(sorted(names)) or 'none'}")


def _dotted(node: ast.AST) -> str | None:
    match node:
        case ast.Name(id=name):
            return name
        case ast.Attribute(value=inner, attr=last) if (first := _dotted(inner)) is not None:
            return f"{first}.{last}"
    return None
