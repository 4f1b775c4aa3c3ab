"""What every reader promises. Add a member to `READERS` and it meets every test."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from data.make_cases import BODY, FAR, INNER, TIMES, meshes, pressure, velocity

from meshes.geometry.cells import area_vectors, cell_centres, cell_sizes
from meshes.geometry.surfaces import outward
from meshes.kinds import HEXAHEDRON, POLYHEDRON
from meshes.mesh import Mesh
from meshes.reading import ReadError, files_of, open_source, read, read_blocks
from meshes.writing import write, write_collection

CASES = Path(__file__).parents[1] / "data" / "cases"


@dataclass
class Reader:
    """Where a copy of the flow is made, and what is in it: times, and blocks beside the fluid."""

    make: Callable[[Path], Path]
    times: tuple[float, ...] = TIMES
    patches: tuple[str, ...] = (BODY, FAR)


def _copied(name: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        shutil.copytree(CASES / Path(name).parts[0], folder / Path(name).parts[0])
        return folder / name

    return make


def _marked(folder: Path) -> Path:
    path = _copied("serial")(folder) / "flow.foam"
    path.touch()
    return path


def _vtu(folder: Path) -> Path:
    write(meshes(TIMES[-1])[INNER], folder / f"{INNER}.vtu")
    return folder / f"{INNER}.vtu"


def _pvd(folder: Path) -> Path:
    files = [(time, folder / f"{time}.vtu") for time in TIMES]
    for time, file in files:
        write(meshes(time)[INNER], file)
    write_collection(folder / "run.pvd", files)
    path = folder / "run.pvd"
    path.write_text(path.read_text().replace('part="0"', f'part="{INNER}"'))
    return path


def _vtm(folder: Path) -> Path:
    sets = ""
    for name, mesh in meshes(TIMES[-1]).items():
        file = f"{name}.{'vtu' if name == INNER else 'vtp'}"
        write(mesh, folder / file)
        sets += f'<DataSet name="{name}" file="{file}"/>'
    text = f'<VTKFile type="vtkMultiBlockDataSet"><vtkMultiBlockDataSet>{sets}</vtkMultiBlockDataSet></VTKFile>'
    (folder / "flow.vtm").write_text(text)
    return folder / "flow.vtm"


READERS = {
    "openfoam": Reader(_copied("serial")),
    "openfoam_decomposed": Reader(_copied("decomposed")),
    "openfoam_marked": Reader(_marked),
    "ensight": Reader(_copied("ensight/flow.case")),
    "vtm": Reader(_vtm, times=()),
    "vtu": Reader(_vtu, times=(), patches=()),
    "pvd": Reader(_pvd, patches=()),
}


@pytest.fixture(params=READERS, ids=str)
def reader(request: pytest.FixtureRequest) -> Reader:
    return READERS[request.param]


@pytest.fixture
def path(reader: Reader, tmp_path: Path) -> Path:
    return reader.make(tmp_path)


def _check(mesh: Mesh, time: float) -> None:
    """Compare fields with what they should be at the middle of each cell."""
    middles = cell_centres(mesh)
    np.testing.assert_allclose(mesh.cell_data["p"], pressure(middles, time), atol=1e-5)
    np.testing.assert_allclose(mesh.cell_data["U"], velocity(middles, time), atol=1e-5)


def test_blocks_times_and_files_are_told_before_reading(reader: Reader, path: Path) -> None:
    source = open_source(path)
    assert source.times() == list(reader.times)
    assert source.blocks(None if not reader.times else reader.times[-1]) == [INNER, *reader.patches]
    files = files_of(path, time="latest")
    assert all(file.is_file() for file in files)
    assert len(files) == len(set(files))


def test_every_block_has_its_cells_and_values(reader: Reader, path: Path) -> None:
    blocks = read_blocks(path, arrays=["p", "U"], time="latest")
    assert list(blocks) == [INNER, *reader.patches]
    sizes = {name: float(np.abs(cell_sizes(mesh)).sum()) for name, mesh in blocks.items()}
    assert sizes == pytest.approx({name: {INNER: 26, BODY: 6, FAR: 54}[name] for name in blocks})
    for mesh in blocks.values():
        _check(mesh, TIMES[-1])


def test_polyhedra_stay_whole(path: Path) -> None:
    mesh = read(path, blocks=[INNER], time="latest")
    assert sorted(mesh.types.tolist()) == [HEXAHEDRON] * 25 + [POLYHEDRON]
    assert mesh.polyhedron_offsets is not None
    assert np.diff(mesh.polyhedron_offsets).max() == 7


def test_a_number_names_a_time(reader: Reader, path: Path) -> None:
    for time in reader.times:
        _check(read(path, blocks=[INNER], arrays=["p", "U"], time=time), time)
        _check(read(path, blocks=[INNER], arrays=["p", "U"], time=time * (1 + 1e-7)), time)
    with pytest.raises(ReadError, match=r"no time 0\.7; there are: 0, 0\.5, 1|without times, but time 0\.7"):
        read(path, blocks=[INNER], time=0.7)


@pytest.mark.parametrize(
    ("time", "middle"), [([0.0, 0.5], 0.25), ("0.5 to latest", 0.75), ("0 to 1", 0.5), ([1.0], 1.0)]
)
def test_means_over_times(reader: Reader, path: Path, time: str | list[float], middle: float) -> None:
    if not reader.times:
        pytest.skip("it has no times")
    mesh = read(path, blocks=[INNER], arrays=["p", "U"], time=time)
    _check(mesh, middle)
    assert mesh.cell_data["p"].dtype == read(path, blocks=[INNER], arrays=["p"], time=0.5).cell_data["p"].dtype


@pytest.mark.parametrize("time", ["2 to 3", "soon", "0 to soon", []])
def test_times_that_are_not_there_are_refused(reader: Reader, path: Path, time: str | list[float]) -> None:
    with pytest.raises(ReadError, match=r"no time from|neither a number nor latest|is empty|without times"):
        read(path, blocks=[INNER], time=time)


def test_several_blocks_become_one_mesh(reader: Reader, path: Path) -> None:
    if not reader.patches:
        pytest.skip("it has one block")
    mesh = read(path, blocks=["bod?", FAR], arrays=["p", "U"], time="latest")
    assert mesh.is_surface
    assert cell_sizes(mesh).sum() == pytest.approx(60)
    _check(mesh, TIMES[-1])
    np.testing.assert_allclose(area_vectors(mesh).sum(axis=0), 0, atol=1e-6)


def test_a_block_that_is_not_there_is_named_beside_those_that_are(path: Path) -> None:
    with pytest.raises(
        ReadError, match=r"no block 'internalMash'; there are: internalMesh.*did you mean internalMesh\?"
    ):
        read(path, blocks=["internalMash"], time="latest")


def test_only_the_arrays_asked_for(path: Path) -> None:
    mesh = read(path, blocks=[INNER], arrays=["p", "not there"], time="latest")
    assert (list(mesh.cell_data), list(mesh.point_data)) == (["p"], [])
    assert not read(path, blocks=[INNER], arrays=[], time="latest").cell_data


def test_nothing_reaches_standard_error(path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    read(path, blocks=[INNER], time="latest")
    with pytest.raises(ReadError):
        read(path, blocks=["none"], time="latest")
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("kept", [0.1, 0.3, 0.5, 0.8, 0.99])
def test_a_file_that_is_cut_short_gives_no_wrong_values(reader: Reader, path: Path, kept: float) -> None:
    blocks = [INNER, *reader.patches]
    for file in files_of(path, arrays=["p", "U"], time="latest"):
        if file.name in ("controlDict", "flow.case"):  # what they lose was not needed, or is then not known
            continue
        whole = file.read_bytes()
        file.write_bytes(whole[: int(kept * len(whole))])
        lost = 0
        for block in blocks:
            try:
                mesh = read(path, blocks=[block], arrays=["p", "U"], time="latest")
            except (ReadError, FileNotFoundError):
                lost += 1
                continue
            arrays = [name for name in ("p", "U") if name in mesh.cell_data]
            lost += len(arrays) < 2
            for name in arrays:
                expected = {"p": pressure, "U": velocity}[name](cell_centres(mesh), TIMES[-1])
                np.testing.assert_allclose(mesh.cell_data[name], expected, atol=1e-5)
        assert lost or (file.name == "boundary" and kept > 0.9), file.name  # of which only the last bracket is gone
        file.write_bytes(whole)


@pytest.mark.parametrize("name", ["openfoam", "openfoam_decomposed"])
def test_patches_of_openfoam_are_wound_out_of_the_fluid(name: str, tmp_path: Path) -> None:
    body = read(READERS[name].make(tmp_path), blocks=[BODY])
    vectors, report = outward(body)
    assert report.turned == body.n_cells
    np.testing.assert_allclose(-area_vectors(body), vectors, atol=1e-6)
