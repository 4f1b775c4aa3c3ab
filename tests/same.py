"""When two meshes are the same."""

import numpy as np

from meshes.mesh import Mesh

TOPOLOGY = ("connectivity", "offsets", "types", "face_connectivity", "face_offsets", "polyhedron_offsets")


def assert_same(found: Mesh, expected: Mesh) -> None:
    """Bit for bit: places, cells, and arrays with their order, types and shapes."""
    _assert_equal(found.points, expected.points, "points")
    for name in TOPOLOGY:
        one, other = getattr(found, name), getattr(expected, name)
        assert (one is None) == (other is None), name
        if one is not None:
            np.testing.assert_array_equal(one, other, err_msg=name)
    for place in ("point_data", "cell_data", "field_data"):
        one, other = getattr(found, place), getattr(expected, place)
        assert list(one) == list(other), place
        for name, array in other.items():
            _assert_equal(one[name], array, f"{place} {name!r}")


def _assert_equal(found: np.ndarray, expected: np.ndarray, name: str) -> None:
    assert found.dtype == expected.dtype, name
    assert found.shape == expected.shape, name
    np.testing.assert_array_equal(found, expected, err_msg=name)
