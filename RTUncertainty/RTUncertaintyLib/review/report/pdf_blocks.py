"""The report's HTML as a list of blocks that a PDF is laid out from: texts, rows of figures, charts."""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass, field
from html import escape
from html.parser import HTMLParser

from rtuncertainty.report import charts as report_charts

FIGURES, CHARTS = 3, 3
"""In a row."""
_VOID = {"br", "img", "meta", "hr"}


@dataclass
class Figure:
    """A picture: PNG file (bytes), caption, the patient's directions (left, right, top, bottom), a bar (share of the width, its
    length in words) and the legend (SVG), both empty where there is none."""

    png: bytes
    caption: str
    letters: tuple[str, str, str, str]
    bar: tuple[float, str] = (0.0, "")
    legend: str = ""


@dataclass
class Block:
    """What is not parted by a page break. One of: `html` (of the subset that QTextDocument knows), `figures` or `charts` (SVG), side
    by side. `keep`: it stays on the page of the block that follows. `width`: share of the page."""

    html: str = ""
    figures: list[Figure] = field(default_factory=list)
    charts: list[str] = field(default_factory=list)
    keep: bool = False
    width: float = 1.0


class _Node:
    """An element of the page: a tag with its attributes, elements and texts."""

    def __init__(self, tag: str, attributes: dict):
        self.tag, self.attributes, self.children = tag, attributes, []

    @property
    def classes(self) -> list[str]:
        return (self.attributes.get("class") or "").split()

    def all(self, tag: str) -> list[_Node]:
        """The elements below, of a tag, in their order."""
        found = []
        for child in self.children:
            if isinstance(child, _Node):
                found += [child] * (child.tag == tag) + child.all(tag)
        return found

    @property
    def text(self) -> str:
        return "".join(child if isinstance(child, str) else child.text for child in self.children)


class _Tree(HTMLParser):
    def __init__(self, html: str):
        super().__init__(convert_charrefs=True)
        self.root = _Node("body", {})
        self._open = [self.root]
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attributes):
        node = _Node(tag, dict(attributes))
        self._open[-1].children.append(node)
        if tag not in _VOID:
            self._open.append(node)

    def handle_endtag(self, tag):
        if len(self._open) > 1 and self._open[-1].tag == tag:
            self._open.pop()

    def handle_data(self, data):
        self._open[-1].children.append(data)


def blocks(sections: list[str]) -> list[Block]:
    """The pieces of `rtuncertainty.report.build.sections` as blocks, in their order."""
    html, drawings = "".join(sections), []

    def put_aside(match) -> str:
        drawings.append(match.group(0))
        return f"<svg data-n='{len(drawings) - 1}'></svg>"

    root = _Tree(re.sub(r"<svg.*?</svg>", put_aside, html, flags=re.DOTALL)).root
    found = [block for child in root.children for block in _blocks(child, drawings)]
    for block, following in zip(found, found[1:]):
        # a line above a table or a chart tells what it is
        block.keep |= block.html.startswith("<p") and (following.html.startswith(("<table", "<ul")) or bool(following.charts))
    return found


def _blocks(node, drawings: list[str]) -> list[Block]:
    if isinstance(node, str):
        return [Block(f"<p>{escape(node)}</p>")] if node.strip() else []
    inner = [block for child in node.children for block in _blocks(child, drawings)] if node.tag in ("section", "div") else []
    if node.tag == "section":
        for block in inner[:-1]:
            block.keep = True
        return inner
    if "pictures" in node.classes:
        figures = [_figure(f, drawings) for f in node.all("figure")]
        rows = [Block(figures=figures[i:i + FIGURES], width=0.8 if "places" in node.classes else 1.0) for i in range(0, len(figures), FIGURES)]
        return rows
    if "charts" in node.classes:
        charts = [drawings[int(s.attributes["data-n"])] for s in node.all("svg")]
        return [Block(charts=charts[i:i + CHARTS]) for i in range(0, len(charts), CHARTS)]
    if node.tag == "svg":
        return [Block(charts=[drawings[int(node.attributes["data-n"])]])]
    if "key" in node.classes:
        return [Block("<p class='key'>" + "&nbsp;&nbsp;&nbsp;".join(_key(span, drawings) for span in node.all("span")) + "</p>", keep=True)]
    if "flag" in node.classes or "research" in node.classes:
        return [Block(_box(node, drawings))]
    if node.tag == "div":
        if inner and "together" in node.classes:
            for block in inner[:-1]:
                block.keep = True
        return inner
    # a paragraph above a table or a list belongs to it, a line that explains pictures to these
    return [Block(_html(node, drawings), keep=node.tag in ("h1", "h2", "h3") or "explained" in node.classes)]


def _figure(node: _Node, drawings: list[str]) -> Figure:
    spans = {span.classes[0]: span for span in node.all("span") if span.classes}
    image = node.all("img")[0]
    bar = spans.get("bar")
    width = re.search(r"([\d.]+)%", bar.attributes.get("style", "")) if bar is not None else None
    legend = node.all("svg")
    return Figure(base64.b64decode(image.attributes["src"].partition(",")[2]), node.all("figcaption")[0].text,
                  tuple(spans[k].text if k in spans else "" for k in "lrtb"),
                  (float(width.group(1)) / 100, bar.text) if width else (0.0, ""), drawings[int(legend[0].attributes["data-n"])] if legend else "")


def _key(span: _Node, drawings: list[str]) -> str:
    """An entry of a chart's key: a coloured dash, or two short ones, and the words."""
    svg = span.all("svg")
    line = drawings[int(svg[0].attributes["data-n"])] if svg else ""
    colour = re.search(r"stroke='([^']+)'", line)
    mark = "- -" if "dasharray" in line else "——"
    return f"<b style='color:{escape(colour.group(1) if colour else '#555', quote=True)}'>{mark}</b> {escape(span.text.strip())}"


def _box(node: _Node, drawings: list[str]) -> str:
    """A flag or a warning as a table of one row with a coloured bar at its left."""
    colour = next((c for name, c in (("serious", "#b3261e"), ("warning", "#c77700"), ("info", "#4a78a8"), ("none", "#3b7d4f"), ("phantom", "#8a5a00"))
                   if name in node.classes), "#b3261e")
    inner = "".join(_html(child, drawings) for child in node.children)
    strong = f" class='{'strong' if 'research' in node.classes else node.classes[-1]}'"
    inner = re.sub(r"</?div[^>]*>", "&nbsp; ", inner).removesuffix("&nbsp; ")
    return (f"<table width='100%' cellspacing='0'><tr><td width='1%' bgcolor='{colour}'></td>"
            f"<td bgcolor='#f4f6f8'{strong}>{inner}</td></tr></table>")


def _html(node, drawings: list[str]) -> str:
    """An element in the subset of HTML that QTextDocument knows; all text is escaped again."""
    if isinstance(node, str):
        return escape(node)
    if node.tag == "svg":
        return ""
    inner = "".join(_html(child, drawings) for child in node.children)
    if "swatch" in node.classes:
        colour = re.search(r"rgb\((\d+),\s*(\d+),\s*(\d+)\)", node.attributes.get("style", ""))
        return f"<span style='color:{report_charts.rgb(colour.groups()) if colour else '#888'}'>&#9632;</span>&nbsp;"
    if "name" in node.classes:
        return inner.replace(" ", "&nbsp;") if "<" not in inner else inner
    classes = list(node.classes)
    if node.tag == "td" and any("name" in span.classes for span in node.all("span")):
        classes.append("name")
    attributes = f" class='{escape(' '.join(classes), quote=True)}'" if classes else ""
    if node.tag == "table":
        attributes += " width='100%' cellspacing='0'"
        if "facts" in node.classes:
            inner = inner.replace("<th>", "<th width='20%'>")
    if node.tag in ("td", "th") and "n" in node.classes:
        attributes += " align='right'"
    return f"<{node.tag}{attributes}>" + (inner + f"</{node.tag}>" if node.tag not in _VOID else "")


def split(block: Block) -> list[Block]:
    """A table that is higher than a page as two, each with the heading row; other blocks as they are."""
    rows = re.findall(r"<tr>.*?</tr>", block.html, flags=re.DOTALL)
    head, body = (rows[:1], rows[1:]) if rows and "<th" in rows[0] else ([], rows)
    start = block.html.find("<tr>")
    if len(body) < 2:
        return [block]
    middle, opening = len(body) // 2, block.html[:start]
    return [Block(f"{opening}{''.join(head + part)}</table>", keep=block.keep and part is body) for part in (body[:middle], body[middle:])]
