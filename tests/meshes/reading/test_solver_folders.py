"""Folders of solvers that are not as they should be, and those of several regions."""

import shutil
from pathlib import Path

import pytest

from meshes.geometry.cells import cell_sizes
from meshes.reading import ReadError, files_of, is_case, open_source, read, read_blocks

CASES = Path(__file__).parents[2] / "data" / "cases"


def _copy(name: str, to: Path) -> Path:
    return Path(shutil.copytree(CASES / name, to))


def test_regions_are_named_before_their_blocks(tmp_path: Path) -> None:
    case = tmp_path / "case"
    shutil.copytree(CASES / "serial/system", case / "system")
    for region in ("air", "solid"):
        shutil.copytree(CASES / "serial/constant/polyMesh", case / "constant" / region / "polyMesh")
        for time in ("0", "1"):
            shutil.copytree(CASES / "serial" / time, case / time / region)
    (case / "1/solid/U").unlink()
    assert open_source(case).blocks(1.0) == [
        f"{region}/{block}" for region in ("air", "solid") for block in ("internalMesh", "body", "far")
    ]
    assert list(read(case, blocks=["air/internalMesh"]).cell_data) == ["U", "p"]
    assert list(read(case, blocks=["solid/internalMesh"]).cell_data) == ["p"]
    assert cell_sizes(read(case, blocks=["*/body"], arrays=["p"])).sum() == pytest.approx(12)
    assert cell_sizes(read(case, arrays=["p"])).sum() == pytest.approx(52)  # the inner meshes


def test_a_case_decides_between_itself_and_its_processors(tmp_path: Path) -> None:
    case = _copy("decomposed", tmp_path / "case")
    assert "processor1" in {file.parents[1].name for file in files_of(case)}
    for name in ("constant", "0", "0.5"):
        shutil.copytree(CASES / "serial" / name, case / name)
    assert open_source(case).decomposed  # type: ignore[attr-defined]  # it ends at 0.5, they at 1
    shutil.copytree(CASES / "serial/1", case / "1")
    assert not open_source(case).decomposed  # type: ignore[attr-defined]
    assert read_blocks(case).keys() == {"internalMesh", "body", "far"}


def test_folders_that_are_no_case(tmp_path: Path) -> None:
    with pytest.raises(ReadError, match="is a folder; expected a file"):
        read(tmp_path)
    (tmp_path / "case.foam").touch()
    with pytest.raises(ReadError, match=r"belongs to no OpenFOAM case: .*controlDict is not there"):
        read(tmp_path / "case.foam")
    with pytest.raises(FileNotFoundError, match="does not exist"):
        read(CASES / "serial" / "other.foam")
    assert is_case(CASES / "serial")
    assert not is_case(CASES)


def test_a_case_without_a_mesh(tmp_path: Path) -> None:
    case = _copy("serial", tmp_path / "case")
    shutil.rmtree(case / "constant")
    with pytest.raises(ReadError, match=r"has no mesh: there is no .*polyMesh$"):
        read(case)
    (case / "processors8").mkdir()
    with pytest.raises(ReadError, match="processors8 is collated: run reconstructPar"):
        read(case)


def test_a_mesh_that_moves_has_no_mean(tmp_path: Path) -> None:
    case = _copy("serial", tmp_path / "case")
    shutil.copytree(case / "constant/polyMesh", case / "1/polyMesh")
    points = case / "1/polyMesh/points"
    points.write_text(points.read_text().replace("(-1.5 -1.5 -1.5)", "(-1.6 -1.5 -1.5)"))
    with pytest.raises(ReadError, match="the mesh of 'internalMesh' is not the same at time 1 and at 0"):
        read(case, time="0 to 1")


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("ensight gold", "ensight", "is of type 'ensight'; only EnSight Gold can be read"),
        ("type:", "kind:", "says no 'type: ensight gold' under FORMAT"),
        ("flow.geo", "gone.geo", "gone.geo is not there, but .*flow.case names it"),
    ],
)
def test_ensight_cases_that_cannot_be_read(tmp_path: Path, old: str, new: str, said: str) -> None:
    path = _copy("ensight", tmp_path / "case") / "flow.case"
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises((ReadError, FileNotFoundError), match=said):
        read(path, time="latest")


def test_a_series_asks_for_its_time(tmp_path: Path) -> None:
    path = CASES / "ensight/flow.case"
    with pytest.raises(ReadError, match=r"is a series; say which of its times to read: 0, 0.5, 1"):
        read(path, blocks=["body"])
    assert list(read_blocks(path, blocks=["body"])) == ["0/body", "0.5/body", "1/body"]
    renamed = _copy("ensight", tmp_path / "case").joinpath("flow.case").rename(tmp_path / "case/flow.encas")
    assert read(renamed, time=0.5, blocks=["body"]).n_cells == 6
