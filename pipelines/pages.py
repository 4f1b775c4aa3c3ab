"""HTML pages that are one file: nothing to fetch, no scripts, readable on paper and in the dark.

Text is escaped unless it was made here. A number stands in a `<data>` element with its full value and the path in the
JSON that it was taken from, so that a program (and a test) can read the page.
"""

import base64
import json
from collections.abc import Callable, Sequence
from html import escape
from typing import Any

STYLE = """
:root { color-scheme: light dark; --ink: #1c2024; --soft: #5a636d; --paper: #ffffff; --rule: #d5dae0; --shade: #f4f6f8;
  --model: #0a5fa8; --other: #c2500f; --faint: #9aa4af; }
@media (prefers-color-scheme: dark) { :root { --ink: #e4e7ea; --soft: #a2abb5; --paper: #15181b; --rule: #3a4149;
  --shade: #1f2428; --model: #6ab0f3; --other: #f0935a; --faint: #707a85; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 74rem; padding: 2rem 1.5rem 4rem; background: var(--paper); color: var(--ink);
  font: 16px/1.5 system-ui, "Segoe UI", "Helvetica Neue", Arial, sans-serif; }
h1 { font-size: 1.7rem; line-height: 1.25; margin: 0 0 .25rem; overflow-wrap: anywhere; }
h2 { font-size: 1.2rem; margin: 2.5rem 0 .5rem; padding-top: .75rem; border-top: 1px solid var(--rule); }
p, ul { max-width: 46rem; margin: .5rem 0; }
.soft, caption, figcaption { color: var(--soft); font-size: .9rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; margin: .75rem 0; font-size: .9rem; font-variant-numeric: tabular-nums; }
caption { text-align: left; padding-bottom: .35rem; max-width: 60rem; }
th, td { padding: .22rem .75rem .22rem 0; text-align: right; vertical-align: top; white-space: nowrap; }
th { font-weight: 600; }
thead th { border-bottom: 1px solid var(--ink); vertical-align: bottom; }
tbody tr { border-bottom: 1px solid var(--rule); }
tbody th, thead th:first-child, .text { text-align: left; }
td.text { white-space: normal; overflow-wrap: break-word; }
thead th { white-space: normal; }
tbody th, td.text { min-width: 7.5rem; max-width: 40rem; }
tbody th { white-space: normal; overflow-wrap: break-word; }
.vector { display: inline-block; white-space: normal; max-width: 8.5rem; }
.best { font-weight: 700; color: var(--model); }
.charts { display: grid; grid-template-columns: repeat(auto-fill, minmax(19rem, 1fr)); gap: 1rem; }
figure { margin: .75rem 0; break-inside: avoid; }
figure img { max-width: 100%; height: auto; background: #fff; border: 1px solid var(--rule); }
svg { width: 100%; height: auto; display: block; }
svg text { fill: var(--ink); font-size: 12px; }
svg .grid { stroke: var(--rule); } svg .axis { stroke: var(--soft); } svg .diagonal { stroke: var(--faint); }
svg .model { fill: var(--model); } svg .bar { fill: var(--model); opacity: .55; }
svg .other, svg .outline { fill: none; stroke: var(--other); stroke-width: 1.4; }
svg .line { fill: none; stroke: var(--model); stroke-width: 1.6; }
svg .thin { fill: none; stroke: var(--faint); stroke-width: 1; }
.missing { border: 1px dashed var(--faint); padding: .75rem 1rem; color: var(--soft); }
pre { background: var(--shade); padding: .75rem 1rem; overflow-x: auto; white-space: pre-wrap; overflow-wrap: anywhere;
  font-size: .85rem; }
@media print { :root { color-scheme: light; --ink: #000; --soft: #444; --paper: #fff; --rule: #bbb; --shade: #f2f2f2;
  --model: #0a5fa8; --other: #c2500f; --faint: #888; }
  body { max-width: none; padding: 0; font-size: 10pt; } table { font-size: 7.5pt; } th, td { padding-right: .4rem; }
  h2 { break-after: avoid; } tr { break-inside: avoid; } .scroll { overflow: visible; } }
"""
VOID = frozenset({"img", "meta", "br"})


class Markup(str):
    """Text that is HTML already."""

    __slots__ = ()


Child = str | None


def element(tag: str, *children: Child, **attributes: str | int | float | None) -> Markup:
    """Make an element; children are escaped unless they are markup, `None` is left out.

    Args:
        tag: its name.
        children: text or markup.
        attributes: by name; a trailing underscore is dropped and others become hyphens, so `class_` is `class`.
    """
    told = "".join(
        f' {name.rstrip("_").replace("_", "-")}="{escape(str(value))}"'
        for name, value in attributes.items()
        if value is not None
    )
    if tag in VOID:
        return Markup(f"<{tag}{told}>")
    return Markup(f"<{tag}{told}>{join(*children)}</{tag}>")


def join(*children: Child) -> Markup:
    """Join text and markup, escaping the text."""
    return Markup("".join(each if isinstance(each, Markup) else escape(each) for each in children if each is not None))


class Numbers:
    """Takes numbers from a JSON by their path and writes them as `<data>`."""

    def __init__(self, values: Any) -> None:
        self.values = values

    def at(self, *path: str | int) -> Any:
        """Look up a value."""
        found = self.values
        for key in path:
            found = found[key]
        return found

    def __call__(self, *path: str | int, form: Callable[[Any], str] | str | None = None) -> Markup:
        """Write the number at a path; an en dash where it is not defined.

        Args:
            path: keys and indices.
            form: a format, or what writes the number; by default four significant figures.
        """
        value = self.at(*path)
        if value is None:
            return Markup("–")
        text = format(value, form) if isinstance(form, str) else (form or figures)(value)
        return element("data", text, value=json.dumps(value), data_path=json.dumps(path, ensure_ascii=False))


def per_cent(value: float) -> str:
    """Write a part as per cent."""
    return f"{100 * value:.2f} %"


def figures(value: float, count: int = 4) -> str:
    """Write a number with a few significant figures, and powers of ten only where it is very small or large."""
    text = f"{value:.{count}g}"
    return f"{float(text):,.0f}" if "e+" in text and abs(value) < 1e9 else text


def table(caption: str, header: Sequence[Child], rows: Sequence[Sequence[Child]], *, text: int = 1) -> Markup:
    """Make a table with a caption; the first column heads its rows.

    Args:
        caption: what it shows.
        header: names of the columns.
        rows: cells, text or markup.
        text: how many of the first columns are text, set flush left.
    """
    head = element(
        "tr", *(element("th", cell, scope="col", class_="text" if n < text else None) for n, cell in enumerate(header))
    )
    body = [
        element(
            "tr",
            element("th", row[0], scope="row"),
            *(element("td", cell, class_="text" if n + 1 < text else None) for n, cell in enumerate(row[1:])),
        )
        for row in rows
    ]
    inner = element("table", element("caption", caption), element("thead", head), element("tbody", *body))
    return element("div", inner, class_="scroll")


def section(title: str, *children: Child) -> Markup:
    """Make a section with its heading."""
    return element("section", element("h2", title), *children)


def picture(png: bytes, alt: str, caption: Child) -> Markup:
    """Embed a PNG."""
    data = base64.b64encode(png).decode("ascii")
    return element(
        "figure", element("img", src=f"data:image/png;base64,{data}", alt=alt), element("figcaption", caption)
    )


def page(title: str, *children: Child) -> str:
    """Make a whole document."""
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        # Nothing is fetched, not even a site's icon.
        Markup('<link rel="icon" href="data:,">'),
        element("title", title),
        element("style", Markup(STYLE)),
    )
    return "<!doctype html>\n" + element("html", head, element("body", element("main", *children)), lang="en") + "\n"
