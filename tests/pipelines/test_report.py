import copy
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from meshes.stores import Store
from pipelines.evaluate import evaluate
from pipelines.pages import VOID, Numbers, element, figures, join
from pipelines.report import draw_worst, render

HOSTILE = """<b>"Flügel" & 'co'</b> <script>alert(1)</script>"""


class Page(HTMLParser):
    """Reads a page strictly: what is opened is closed in order, and nothing comes from elsewhere."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.count: dict[str, int] = {}
        self.numbers: list[tuple[list[Any], str, str]] = []
        self.bare: list[str] = []
        self.text = ""
        self.feed(text)
        self.close()
        assert self.open == [], "elements that are never closed"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = dict(attrs)
        assert tag != "script"
        assert not any(name.startswith("on") for name in attributes)
        for name in ("src", "href", "srcset", "action", "data"):
            assert (attributes.get(name) or "data:").startswith("data:"), f"{tag} reaches out to {attributes[name]}"
        self.count[tag] = self.count.get(tag, 0) + 1
        if tag == "img":
            assert attributes["alt"]
        if tag == "svg":
            assert attributes["role"] == "img"
            assert attributes["aria-label"]
        if tag == "data":
            self.numbers.append((json.loads(attributes["data-path"] or ""), attributes["value"] or "", ""))
        if tag not in (*VOID, "link"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data
        if "data" in self.open:
            path, value, text = self.numbers.pop()
            self.numbers.append((path, value, text + data))
        elif "td" in self.open:
            self.bare.append(data)
        if "style" in self.open:
            assert "url(" not in data
            assert "@import" not in data


def check(text: str, scores: dict[str, Any]) -> Page:
    page = Page(text)
    assert page.count["h1"] == 1
    assert page.count["table"] == page.count["caption"]
    assert page.count["h2"] == page.count["section"]
    assert len(page.numbers) > 50
    for path, value, shown in page.numbers:
        found: Any = scores
        for key in path:
            found = found[key]
        assert json.loads(value) == found, path
        number = float(re.sub(r"[,% ]", "", shown)) / (100 if "%" in shown else 1)
        # What is shown has at least three figures, or four decimals (two of a per cent).
        assert number == pytest.approx(found, rel=6e-3, abs=6e-5 if "%" in shown else 6e-4), path
    without_source = [each for each in page.bare if re.fullmatch(r"[-+]?\d[\d.,]*( %)?", each.strip())]
    assert without_source == []
    return page


@pytest.fixture(scope="module")
def scores(tiny_run: Path) -> dict[str, Any]:
    return evaluate(tiny_run, draws=2, pictures=1, out=tiny_run.parent / "report")


@pytest.fixture(scope="module")
def report(scores: dict[str, Any], tiny_run: Path) -> Path:
    return tiny_run.parent / "report" / "report.html"


def test_the_report_is_whole_and_every_number_is_that_of_the_scores(report: Path) -> None:
    scores = json.loads((report.parent / "scores.json").read_text(encoding="utf-8"))
    page = check(report.read_text(encoding="utf-8"), scores)
    assert page.count["svg"] == 2 + len(scores["fields"]) + 1  # parity, histograms, learning curve
    assert page.count["img"] >= 1, "a picture of the worst case, or this machine cannot draw"
    for said in ("stokes_0008", "drag coefficient", "quadratic", "anchorfield evaluate", scores["store_digest"]):
        assert said in page.text


def test_names_are_escaped_and_missing_parts_are_said(scores: dict[str, Any]) -> None:
    hostile = copy.deepcopy(scores)
    name = hostile["cases"][0]
    for part in (hostile["per_case"], hostile["forces"]["cases"]):
        part[HOSTILE] = part.pop(name)
    hostile["cases"][0] = HOSTILE
    for entry in hostile["fields"].values():
        for worst in entry["worst_cases"]:
            worst["case"] = HOSTILE if worst["case"] == name else worst["case"]
    hostile["run"] = f"runs/{HOSTILE}"
    field = next(iter(hostile["fields"]))
    page = check(render(hostile, [], {(HOSTILE, field): "VTK <found> no OpenGL"}), hostile)
    assert page.text.count(HOSTILE) >= 3
    assert f"No picture of the surface pressure of {HOSTILE}: VTK <found> no OpenGL." in page.text
    assert "no learning curve" in page.text
    assert "img" not in page.count


def test_coefficients_that_a_baseline_orders_better_are_said_first(scores: dict[str, Any]) -> None:
    beaten = copy.deepcopy(scores)
    drag = beaten["forces"]["coefficients"]["drag_coefficient"]
    for part in drag["baselines"].values():
        part |= {"right": 0, "mean_absolute_error": 0.5}
    drag |= {"right": 0, "mean_absolute_error": 0.2}
    drag["baselines"]["ridge"] |= {"right": 1, "mean_absolute_error": 0.4}
    page = check(render(beaten, [], {}), beaten)
    assert "drag coefficient off by 0.2 (ridge: 0.4) on average" in page.text
    assert "order of designs by drag coefficient (0; ridge 1)" in page.text
    assert "drag coefficient (0.2; ridge 0.4)" not in page.text
    drag["baselines"]["ridge"] |= {"right": 0, "mean_absolute_error": 0.1}
    page = check(render(beaten, [], {}), beaten)
    assert "drag coefficient (0.2; ridge 0.1)" in page.text
    assert "order of designs by drag" not in page.text


def test_one_draw_and_no_forces_leave_out_what_they_cannot_tell(scores: dict[str, Any]) -> None:
    bare = copy.deepcopy(scores)
    bare["draws"], bare["forces"] = 1, None
    for entry in bare["fields"].values():
        del entry["calibration"]
    page = check(render(bare, [{"step": 1, "loss": 0.5}], {}), bare)
    assert "evaluate with --draws 4" in page.text
    assert "Force coefficients" not in page.text
    assert "No pictures were asked for" in page.text


def test_files_that_moved_are_said_in_the_place_of_the_picture(
    scores: dict[str, Any], tiny_run: Path, tiny_store: Path, tmp_path: Path
) -> None:
    shutil.copytree(tiny_store, tmp_path / "store")
    manifest = json.loads((tmp_path / "store" / "manifest.json").read_text())
    for entry in manifest["cases"].values():
        for source in entry["sources"].values():
            source["path"] = str(tmp_path / "gone.vtp")
    (tmp_path / "store" / "manifest.json").write_text(json.dumps(manifest))
    checkpoint = tiny_run / "checkpoints" / scores["checkpoint"]
    drawn = draw_worst(scores, checkpoint, Store(tmp_path / "store"), 5, "cpu")
    assert len(drawn) == len(scores["fields"])
    for (case, _), found in drawn.items():
        assert found == f"the files of {case} are not where they were prepared from"


def test_numbers_are_written_with_their_source() -> None:
    numbers = Numbers({"a": {"<b>": [0.123456, None]}})
    assert numbers("a", "<b>", 0) == (
        '<data value="0.123456" data-path="[&quot;a&quot;, &quot;&lt;b&gt;&quot;, 0]">0.1235</data>'
    )
    assert numbers("a", "<b>", 1) == "–"
    assert join("<", element("b", "&"), None) == "&lt;<b>&amp;</b>"
    assert [figures(value) for value in (69153.2, 0.00001234, 12.0, -1e12)] == ["69,150", "1.234e-05", "12", "-1e+12"]


@pytest.mark.browser
def test_a_browser_shows_it_without_errors(report: Path, tmp_path: Path) -> None:
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    assert chromium, "install Chromium: apt-get install chromium"

    def browse(file: Path, *options: str) -> subprocess.CompletedProcess[str]:
        command = [chromium, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
        command += [
            "--enable-logging=stderr",
            f"--user-data-dir={tmp_path / 'profile'}",
            "--virtual-time-budget=10000",
            *options,
            file.as_uri(),
        ]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)

    shot = tmp_path / "report.png"
    shown = browse(report, "--window-size=1250,6000", f"--screenshot={shot}")
    assert "CONSOLE" not in shown.stderr, shown.stderr
    import pyvista

    pixels = pyvista.read(shot).point_data.active_scalars
    assert pixels.std() > 10, "the page is blank"

    # The page has no script; a copy gets one that tells what was loaded, and an image that cannot be, as a check.
    probe = """<img src="data:image/png;base64,AAAA" alt="broken"><script>addEventListener("load", () => {
        document.title = JSON.stringify([...document.images].map(each => each.naturalWidth));
        console.error("the probe ran"); });</script>"""
    copy_ = tmp_path / "probe.html"
    text = report.read_text(encoding="utf-8")
    copy_.write_text(text.replace("</body>", f"{probe}</body>"), encoding="utf-8")
    probed = browse(copy_, "--dump-dom")
    assert "the probe ran" in probed.stderr, "console messages are seen"
    title = re.search(r"<title>(\[.*?\])</title>", probed.stdout)
    assert title
    *widths, broken = json.loads(title.group(1))
    assert broken == 0
    assert len(widths) == text.count("<img ")
    assert all(width >= 700 for width in widths), widths
