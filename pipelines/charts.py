"""Small charts as SVG: parity, histogram, curves. Colours come from the style sheet of the page."""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pipelines.pages import Markup, element, figures

WIDTH, HEIGHT = 420, 330
LEFT, RIGHT, TOP, BOTTOM = 62, 14, 14, 46
ACROSS, UP = (float(LEFT), float(WIDTH - RIGHT)), (float(HEIGHT - BOTTOM), float(TOP))


@dataclass(frozen=True)
class Axis:
    """Maps values to places on the picture.

    Attributes:
        low, high: values at its ends.
        start, stop: places of its ends.
        log: whether steps are factors.
    """

    low: float
    high: float
    start: float
    stop: float
    log: bool = False

    def __call__(self, value: float) -> float:
        """Place a value; what lies beyond an end is put there."""
        low, high, value = (self._measure(each) for each in (self.low, self.high, value))
        part = min(max((value - low) / (high - low), 0.0), 1.0)
        return round(self.start + part * (self.stop - self.start), 2)

    def _measure(self, value: float) -> float:
        return math.log10(max(value, 1e-300)) if self.log else value

    def ticks(self) -> list[float]:
        """Choose round values to name: about five, or the powers of ten."""
        if self.log:
            first, last = math.ceil(math.log10(self.low) - 1e-9), math.floor(math.log10(self.high) + 1e-9)
            if last - first >= 1:
                step = -(-(last - first) // 6)
                return [10.0**power for power in range(first, last + 1, max(step, 1))]
            return [self.low, math.sqrt(self.low * self.high), self.high]
        raw = (self.high - self.low) / 5
        step = 10.0 ** math.floor(math.log10(raw))
        step *= next(factor for factor in (1, 2, 5, 10) if factor * step >= raw)
        first = math.ceil(self.low / step - 1e-9)
        return [n * step for n in range(first, math.floor(self.high / step + 1e-9) + 1)]


def parity(
    name: str,
    points: Sequence[tuple[str, float, float]],
    others: Sequence[tuple[str, float, float]] = (),
    *,
    other: str = "",
) -> Markup:
    """Draw predictions over truths, with the diagonal that perfect ones lie on.

    Args:
        name: of the number, for the axes.
        points: case, truth and prediction.
        others: the same of something to compare with, drawn hollow.
        other: what that is.
    """
    values = [value for _, *pair in [*points, *others] for value in pair]
    low, high = min(values), max(values)
    margin = 0.06 * (high - low) or abs(low) * 0.1 or 1.0
    low, high = low - margin, high + margin
    across, up = _axes(low, high, low, high)
    diagonal = element("line", x1=across(low), y1=up(low), x2=across(high), y2=up(high), class_="diagonal")
    marks = [diagonal]
    for case, truth, value in others:
        tip = _tip(f"{case}: truth {truth:.5g}, {other} {value:.5g}")
        marks.append(element("path", tip, d=_diamond(across(truth), up(value)), class_="other"))
    for case, truth, value in points:
        tip = _tip(f"{case}: truth {truth:.5g}, predicted {value:.5g}")
        marks.append(element("circle", tip, cx=across(truth), cy=up(value), r=4.5, class_="model"))
    marks.append(_key([("model", "surrogate"), ("other", other)] if others else []))
    title = f"Parity of the {name}: prediction over truth for {len(points)} cases"
    return _chart(title, across, up, marks, f"{name}, truth", "predicted")


def histogram(
    name: str, edges: Sequence[float], counts: Sequence[int], others: Sequence[int] = (), *, other: str = ""
) -> Markup:
    """Draw how many points have which error, in per cent of all, over logarithmic bins.

    Args:
        name: of the field.
        edges: of the bins, in ascending order.
        counts: points in each bin.
        others: the same of something to compare with, drawn as an outline.
        other: what that is.
    """
    series = [[100 * count / max(sum(each), 1) for count in each] for each in (counts, others) if each]
    used = [n for each in series for n, value in enumerate(each) if value > 0]
    first, last = (min(used), max(used) + 1) if used else (0, len(edges) - 1)
    across = Axis(edges[first], edges[last], *ACROSS, log=True)
    up = Axis(0.0, 1.08 * max(map(max, series)) or 1.0, *UP)
    bins = list(itertools.pairwise(edges))[first:last]
    marks = []
    for (low, high), value in zip(bins, series[0][first:last], strict=True):
        left, width, height = across(low), across(high) - across(low), up(0.0) - up(value)
        tip = _tip(f"{value:.2f} % of the points")
        marks.append(
            element("rect", tip, x=left, y=up(value), width=round(width, 2), height=round(height, 2), class_="bar")
        )
    if others:
        steps = zip(bins, series[1][first:last], strict=True)
        corners = [(across(x), up(value)) for edge, value in steps for x in edge]
        marks.append(element("polyline", points=_points(corners), class_="other"))
        marks.append(_key([("bar", "surrogate"), ("outline", other)]))
    title = f"Histogram of the error of the {name}"
    return _chart(title, across, up, marks, "error in standard deviations of the field", "% of points")


def curves(title: str, series: Mapping[str, Sequence[tuple[float, float]]], across_label: str, up_label: str) -> Markup:
    """Draw curves over a common axis, upwards in powers of ten: the first strong, others thin."""
    known = {name: [(x, y) for x, y in points if y > 0] for name, points in series.items()}
    known = {name: points for name, points in known.items() if points}
    xs, ys = ([float(point[n]) for points in known.values() for point in points] for n in (0, 1))
    across, up = _axes(min(xs), max(xs) if max(xs) > min(xs) else min(xs) + 1, min(ys) / 1.1, 1.1 * max(ys), log=True)
    lines = []
    for number, points in reversed(list(enumerate(known.values()))):
        placed = [(across(x), up(y)) for x, y in points]
        lines.append(element("polyline", points=_points(placed), class_="thin" if number else "line"))
        if not number:
            lines += [element("circle", cx=x, cy=y, r=2.5, class_="model") for x, y in placed[:60]]
    key = _key([("line", name) if not number else ("thin", name) for number, name in enumerate(known)])
    return _chart(title, across, up, [*lines, key], across_label, up_label)


# --- Parts


def _axes(low: float, high: float, bottom: float, top: float, *, log: bool = False) -> tuple[Axis, Axis]:
    return Axis(low, high, *ACROSS), Axis(bottom, top, *UP, log=log)


def _chart(title: str, across: Axis, up: Axis, marks: Sequence[Markup], across_label: str, up_label: str) -> Markup:
    parts = []
    for value in across.ticks():
        x = across(value)
        parts.append(element("line", x1=x, y1=TOP, x2=x, y2=HEIGHT - BOTTOM, class_="grid"))
        parts.append(element("text", _short(value), x=x, y=HEIGHT - BOTTOM + 16, text_anchor="middle"))
    for value in up.ticks():
        y = up(value)
        parts.append(element("line", x1=LEFT, y1=y, x2=WIDTH - RIGHT, y2=y, class_="grid"))
        parts.append(element("text", _short(value), x=LEFT - 6, y=y + 4, text_anchor="end"))
    middle = (TOP + HEIGHT - BOTTOM) / 2
    parts += [
        element("line", x1=LEFT, y1=HEIGHT - BOTTOM, x2=WIDTH - RIGHT, y2=HEIGHT - BOTTOM, class_="axis"),
        element("line", x1=LEFT, y1=TOP, x2=LEFT, y2=HEIGHT - BOTTOM, class_="axis"),
        element("text", across_label, x=(LEFT + WIDTH - RIGHT) / 2, y=HEIGHT - 8, text_anchor="middle"),
        element("text", up_label, x=14, y=middle, text_anchor="middle", transform=f"rotate(-90 14 {middle})"),
        *marks,
    ]
    return element(
        "svg", element("title", title), *parts, viewBox=f"0 0 {WIDTH} {HEIGHT}", role="img", aria_label=title
    )


def _key(entries: Sequence[tuple[str, str]]) -> Markup:
    parts = []
    for number, (kind, name) in enumerate(entries):
        x, y = float(LEFT + 14), float(TOP + 14 + 17 * number)
        if kind == "model":
            parts.append(element("circle", cx=x, cy=y, r=4.5, class_=kind))
        elif kind == "bar":
            parts.append(element("rect", x=x - 7, y=y - 5, width=14, height=10, class_=kind))
        elif kind == "other":
            parts.append(element("path", d=_diamond(x, y), class_=kind))
        else:
            parts.append(element("line", x1=x - 8, y1=y, x2=x + 8, y2=y, class_=kind))
        parts.append(element("text", name, x=x + 13, y=y + 4))
    return element("g", *parts)


def _tip(text: str) -> Markup:
    return element("title", text)


def _diamond(x: float, y: float) -> str:
    return f"M{x:.2f} {y - 5:.2f}l5 5l-5 5l-5 -5z"


def _points(corners: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{x},{y}" for x, y in corners)


def _short(value: float) -> str:
    return "0" if abs(value) < 1e-12 else figures(value, 3).replace("e-0", "e-").replace("-", "−")
