"""What a field is: its name in the files, its unit, and how it becomes non-dimensional."""

from dataclasses import dataclass
from typing import Literal

FieldKind = Literal["scalar", "vector", "pseudovector"]


@dataclass(frozen=True, kw_only=True)
class FieldSpec:
    """A physical quantity as it stands in the source files.

    Stored values keep the unit, sign and name of the source, so that what is predicted drops into the views that a
    user already has. An operator sees `(value - free_stream) / scale`, standardised.

    Attributes:
        array: name of the array in the source file, and in what is predicted.
        parts: arrays of the source file that hold the components of a vector along x, y and z, such as
            `("Ux", "Uy", "Uz")`; `None` where `array` is there whole, or its name tells the names of its components.
        unit: unit of the array's values, such as `m²/s²`; `1` for none.
        kind: how the field behaves under a mirror: a `vector` reflects, a `pseudovector` (vorticity) reflects and
            changes sign.
        components: columns of the array that are kept, such as `(0, 1)` for a vector in the plane; `None` keeps all.
        scale: expression of the case's parameters that makes the field non-dimensional, such as `0.5 * speed**2`.
        free_stream: the value far away, one expression for each kept component; `None` means zero.
    """

    array: str
    unit: str
    kind: FieldKind = "scalar"
    parts: tuple[str, ...] | None = None
    components: tuple[int, ...] | None = None
    scale: str = "1"
    free_stream: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if self.parts is not None and len(self.parts) != 3:
            raise ValueError(
                f"parts of {self.array!r} names {len(self.parts)} arrays; expected three, along x, y and z"
            )
