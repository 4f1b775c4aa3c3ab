import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pipelines.grids import MOST, centres, graded_edges, grid_mesh, uniform_edges

BOX = np.array([[-1.0, 0.0, 2.0], [3.0, 1.0, 2.5]])


def test_a_uniform_grid_fills_its_box() -> None:
    edges = uniform_edges(BOX, counts=(4, 2, 1), spacing=None)
    assert [len(each) for each in edges] == [5, 3, 2]
    for axis, each in enumerate(edges):
        assert (each[0], each[-1]) == (BOX[0, axis], BOX[1, axis])
    assert [len(each) for each in uniform_edges(BOX, counts=None, spacing=0.3)] == [15, 5, 3]
    np.testing.assert_allclose(np.diff(uniform_edges(BOX, counts=None, spacing=0.3)[0]), 0.3)


def test_a_grid_needs_its_settings() -> None:
    with pytest.raises(ValueError, match="is empty"):
        uniform_edges(BOX[::-1], counts=(1, 1, 1), spacing=None)
    with pytest.raises(ValueError, match="either the number of cells or their size"):
        uniform_edges(BOX, counts=(1, 1, 1), spacing=0.1)
    with pytest.raises(ValueError, match="3 positive numbers"):
        uniform_edges(BOX, counts=(1, 0, 1), spacing=None)
    with pytest.raises(ValueError, match="expected a positive size"):
        uniform_edges(BOX, counts=None, spacing=-1.0)


@given(
    reach=st.floats(0.0, 20.0),
    size=st.tuples(st.floats(0.2, 3.0), st.floats(0.2, 3.0), st.floats(0.2, 3.0)),
    plane=st.booleans(),
)
@example(reach=0.3125, size=(1.0, 1.0, 2.0), plane=False)  # a fifth of a cell beyond the even part
def test_a_graded_grid_grows_away_from_the_body(reach: float, size: tuple[float, float, float], plane: bool) -> None:
    body = np.array([[0.0, 0.0, 0.0], size])[:, : 2 if plane else 3]
    box = np.stack([body[0] - reach, body[1] + reach])
    edges = graded_edges(box, body)
    steps = [np.diff(each) for each in edges]
    assert np.prod([len(step) for step in steps]) <= MOST
    for axis, (each, step) in enumerate(zip(edges, steps, strict=True)):
        assert (step > 0).all()
        np.testing.assert_allclose(each[[0, -1]], box[:, axis], atol=1e-9 * (1 + reach))
        assert (step[1:] / step[:-1]).max(initial=1) < 2.5
        assert (step[:-1] / step[1:]).max(initial=1) < 2.5


@pytest.mark.parametrize("axes", [[0, 1, 2], [0, 1], [0, 2]])
def test_cells_stand_where_their_centres_say(axes: list[int]) -> None:
    edges = uniform_edges(BOX[:, : len(axes)], counts=(4, 3, 2)[: len(axes)], spacing=None)
    centre = centres(edges)
    keep = np.random.default_rng(0).random(len(centre)) < 0.6
    mesh = grid_mesh(edges, keep, axes, level=0.7)
    corners = mesh.points[mesh.connectivity].reshape(keep.sum(), -1, 3)
    np.testing.assert_allclose(corners.mean(1)[:, axes], centre[keep], atol=1e-6)
    assert len(np.unique(mesh.connectivity)) == len(mesh.points)
    if len(axes) == 2:
        (across,) = set(range(3)) - set(axes)
        np.testing.assert_allclose(mesh.points[:, across], 0.7, rtol=1e-6)
