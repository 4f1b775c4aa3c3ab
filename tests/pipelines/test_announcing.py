"""Large meshes are told before they are opened, from heads that claim more than any machine has."""

import logging
from pathlib import Path

import numpy as np
import pytest
import pyvista
from data.make_cases import meshes

from meshes.fields import FieldSpec
from meshes.reading.sizes import say_bytes, size_of
from meshes.writing import write
from pipelines.announcing import refuse_too_large
from pipelines.inspect import inspect
from pipelines.prepare import prepare
from pipelines.sources import BranchSource, DataConfig, GeometrySource, NamedSplits

CASES = Path(__file__).parents[1] / "data" / "cases"


def _claims(path: Path, cells: int) -> Path:
    """Write a VTU whose head claims many cells, and which holds none."""
    path.write_text(
        '<VTKFile type="UnstructuredGrid" version="1.0" byte_order="LittleEndian"><UnstructuredGrid>'
        f'<Piece NumberOfPoints="{cells}" NumberOfCells="{cells}"><CellData><DataArray type="Float32" Name="p" '
        'format="appended" offset="0"/></CellData></Piece></UnstructuredGrid></VTKFile>'
    )
    return path


def test_inspect_announces_and_refuses_before_it_reads(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = _claims(tmp_path / "volume.vtu", 10**12)
    with caplog.at_level(logging.INFO), pytest.raises(ValueError, match=r"are available; .*--beyond-memory to go on"):
        inspect([path])
    assert f"{path}: {path.stat().st_size} bytes on disk, about 688,000 GB in memory" in caplog.text
    with pytest.raises(ValueError, match=r"cannot be read as \.vtu"):
        inspect([path], beyond_memory=True)


def test_prepare_announces_the_largest_and_refuses_each(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for number in range(3):
        folder = tmp_path / f"case_{number}"
        folder.mkdir()
        _claims(folder / "volume.vtu", 10**12 + number)
        pyvista.Sphere().save(folder / "body.stl")
    config = DataConfig(
        store=tmp_path / "store",
        cases=f"{tmp_path}/case_*",
        geometry=GeometrySource(file="body.stl"),
        branches={
            "volume": BranchSource(file="volume.vtu", kind="volume", fields={"p": FieldSpec(array="p", unit="Pa")})
        },
        splits=NamedSplits(),
    )
    with caplog.at_level(logging.INFO), pytest.raises(ValueError, match=r"set data\.beyond_memory: true to go on"):
        prepare(config, workers=1)
    size = say_bytes((tmp_path / "case_2/volume.vtu").stat().st_size)
    announced = [line for line in caplog.messages if "on disk" in line and "failed" not in line]
    assert announced == [f"{tmp_path}/case_2/volume.vtu: {size} on disk, about 688,000 GB in memory"]


def test_small_meshes_are_opened_without_a_word(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        inspect([CASES / "serial", CASES / "ensight" / "flow.case"])
    assert caplog.text == ""


def test_a_worker_is_told_to_share_with_fewer(tmp_path: Path) -> None:
    size = size_of(_claims(tmp_path / "volume.vtu", 2 * 10**6))
    with pytest.raises(
        ValueError, match=r"about 1\.38 GB in memory, but 1 MB this worker may take; use fewer workers or"
    ):
        refuse_too_large(tmp_path / "volume.vtu", size, "say so", limit=10**6)


def test_sizes_are_of_the_right_order(tmp_path: Path) -> None:
    mesh = meshes(0.0)["internalMesh"]
    write(mesh, tmp_path / "fluid.vtu")
    alike = [size_of(path, time="latest").memory for path in (tmp_path / "fluid.vtu", CASES / "serial")]
    held = mesh.connectivity.nbytes + mesh.points.nbytes + sum(array.nbytes for array in mesh.cell_data.values())
    for memory in [*alike, size_of(CASES / "decomposed").memory]:
        assert held < memory < 20 * held
    grid = pyvista.ImageData(dimensions=(4, 4, 4))
    grid.cell_data["p"] = np.ones(27, np.float32)
    grid.save(tmp_path / "grid.vti")
    assert size_of(tmp_path / "grid.vti").memory == 40 * 64 + 80 * 8 * 27 + 2 * 4 * 27
    assert size_of(tmp_path / "grid.vti", arrays=[]).memory == 40 * 64 + 80 * 8 * 27


@pytest.mark.parametrize(
    ("count", "said"), [(12_340_000_000, "12.3 GB"), (1_000_000, "1 MB"), (4_500, "4.5 kB"), (7, "7 bytes")]
)
def test_bytes_are_said_briefly(count: int, said: str) -> None:
    assert say_bytes(count) == said
