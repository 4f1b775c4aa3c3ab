"""Results replace results of the same kind, whole or not at all, and nothing else."""

import json
from pathlib import Path

import pytest

from pipelines.outputs import results
from pipelines.settings import ConfigError

RECORD = "record.json"


def leave(out: Path, files: dict[str, str], **places) -> None:
    with results(out, RECORD, list(files), **places) as folder:
        for name, text in files.items():
            (folder / name).write_text(text)
        (folder / RECORD).write_text(json.dumps({"files": dict.fromkeys(files)}))


def there(out: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in out.iterdir() if path.name != RECORD}


def test_new_results_replace_old_ones_and_leave_no_old_one_beside(tmp_path: Path) -> None:
    leave(tmp_path, {"a": "1", "b": "1"})
    (tmp_path / "notes").write_text("mine")
    leave(tmp_path, {"a": "2"})
    assert there(tmp_path) == {"a": "2", "notes": "mine"}
    assert json.loads((tmp_path / RECORD).read_text()) == {"files": {"a": None}}


def test_a_failure_leaves_the_old_results(tmp_path: Path) -> None:
    leave(tmp_path, {"a": "1", "b": "1"})
    with pytest.raises(FileNotFoundError):
        leave(tmp_path, {"a": "2", "nowhere/b": "2"})
    assert there(tmp_path) == {"a": "1", "b": "1"}


@pytest.mark.parametrize("text", [None, "{", "[]", '{"files": {"b": 1}}', '{"files": {"../a": 1}}'])
def test_files_that_no_record_lists_are_not_replaced(tmp_path: Path, text: str | None) -> None:
    (tmp_path / "a").write_text("mine")
    if text is not None:
        (tmp_path / RECORD).write_text(text)
    with pytest.raises(ConfigError, match=r"is there already .* name another --out"):
        leave(tmp_path, {"a": "2"})
    assert (tmp_path / "a").read_text() == "mine"


def test_a_record_names_no_file_elsewhere(tmp_path: Path) -> None:
    elsewhere = tmp_path / "precious"
    elsewhere.write_text("mine")
    out = tmp_path / "out"
    out.mkdir()
    (out / RECORD).write_text('{"files": {"../precious": 1}}')
    leave(out, {"a": "1"})
    assert elsewhere.read_text() == "mine"


def test_inputs_and_links_are_not_replaced(tmp_path: Path) -> None:
    leave(tmp_path, {"a": "1"})
    with pytest.raises(ConfigError, match="would take the place of what it is made from"):
        leave(tmp_path, {"a": "2"}, inputs=[tmp_path / "a"])
    (tmp_path / "a").rename(tmp_path / "b")
    (tmp_path / "a").symlink_to("b")
    with pytest.raises(ConfigError, match="is there already"):
        leave(tmp_path, {"a": "2"})
    assert (tmp_path / "b").read_text() == "1"
