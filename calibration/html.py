"""The elements of a self-contained HTML page: tables, bar plots and pictures in one file, without a
script or a network.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from html import escape

from PIL import Image

SIDE = 480  # of a picture's longest side
QUALITY = 72
COLOURS = ("#2f6fdb", "#a9b4c2", "#e0803a", "#4a9d68")
LABEL = 170  # pixels of a bar plot, from left to right: the labels, the bars, their values
PLOT = 420
VALUE = 90
HEAD = 24  # and from above: the legend, a bar, the gap behind a label's bars
BAR = 14
GAP = 12
STYLE = """
body{margin:0 auto;max-width:1080px;padding:2.5rem 1.5rem 4rem;background:#fbfaf8;color:#22262b;
font:16px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif}
h1{font-size:1.7rem;line-height:1.25;margin:0 0 .4rem}h2{font-size:1.15rem;margin:2.4rem 0 .7rem}
p{max-width:46rem;margin:.5rem 0}table{border-collapse:collapse;font-variant-numeric:tabular-nums}
th,td{padding:.3rem 1.2rem .3rem 0;border-bottom:1px solid #e4e1db;
text-align:left;vertical-align:top}
th{font-weight:600;color:#5b636d}td+td,th+th{text-align:right}
svg{display:block;max-width:100%;height:auto;margin:.6rem 0}
svg text{font:13px system-ui,sans-serif;fill:#22262b}
figure{margin:0}figcaption{font-size:.9rem;color:#5b636d}figcaption b{color:#22262b}
img{max-width:100%;border-radius:4px}
.pair{display:grid;grid-template-columns:repeat(auto-fit,minmax(300px,480px));
gap:1.2rem;margin:0 0 1.8rem}
.sample{margin:1.2rem 0 .4rem}.good{color:#2c7a4b}.bad{color:#b3341f}
@media print{.pair{break-inside:avoid}}
""".replace("\n", "")


def page(title: str, sections: Sequence[tuple[str, str]]) -> str:
    """A page of (heading, markup) sections; the markup is trusted: make it with the functions
    below.
    """
    body = "\n".join(_section(heading, markup) for heading, markup in sections)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head>\n"
        f"<body><h1>{escape(title)}</h1>\n{body}\n</body></html>\n"
    )


def _section(heading: str, markup: str) -> str:
    return f"<section><h2>{escape(heading)}</h2>\n{markup}\n</section>"


def paragraph(text: str, kind: str = "") -> str:
    """``kind`` is "good", "bad", "sample" or nothing."""
    attribute = f' class="{kind}"' if kind else ""
    return f"<p{attribute}>{escape(text)}</p>"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """The first column to the left, the others to the right."""
    head = _cells("th", header)
    body = "".join(f"<tr>{_cells('td', row)}</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _cells(tag: str, texts: Sequence[str]) -> str:
    return "".join(f"<{tag}>{escape(text)}</{tag}>" for text in texts)


def bars(labels: Sequence[str], series: Mapping[str, Sequence[float]], form: str = "{:.3g}") -> str:
    """Horizontal bars from 0: for each label one of each series, each value of at least 0, written
    as ``form``.
    """
    values = [value for numbers in series.values() for value in numbers]
    largest = max(values, default=0) or 1
    step = BAR * len(series) + GAP
    head = HEAD if len(series) > 1 else 0
    width = LABEL + PLOT + VALUE
    height = head + step * len(labels)
    parts = [f'<svg role="img" viewBox="0 0 {width} {height}" width="{width}" height="{height}">']
    if head:
        parts += _legend(list(series))
    for row, label in enumerate(labels):
        top = head + row * step
        middle = top + BAR * len(series) / 2 + 4
        text = escape(label)
        parts.append(f'<text x="{LABEL - 10}" y="{middle:g}" text-anchor="end">{text}</text>')
        for column, numbers in enumerate(series.values()):
            length = PLOT * numbers[row] / largest
            text = escape(form.format(numbers[row]))
            parts.append(_bar(length, top + column * BAR, column, text))
    return "".join(parts) + "</svg>"


def _legend(names: Sequence[str]) -> list[str]:
    parts = []
    for column, name in enumerate(names):
        left = LABEL + column * PLOT // len(names)
        place = f'x="{left}" y="3" width="10" height="10" rx="2"'
        parts.append(f'<rect {place} fill="{_colour(column)}"/>')
        parts.append(f'<text x="{left + 16}" y="12">{escape(name)}</text>')
    return parts


def _bar(length: float, y: int, column: int, text: str) -> str:
    place = f'x="{LABEL}" y="{y}" width="{length:.1f}" height="{BAR - 2}" rx="2"'
    bar = f'<rect {place} fill="{_colour(column)}"/>'
    return f'{bar}<text x="{LABEL + length + 6:.1f}" y="{y + BAR - 3}">{text}</text>'


def _colour(column: int) -> str:
    return COLOURS[column % len(COLOURS)]


def picture(image: Image.Image, caption: Sequence[tuple[str, str]] = ()) -> str:
    """``image`` at 480 pixels on its longest side, and below it ``caption``: names with their
    texts.
    """
    small = image.convert("RGB")
    small.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    stream = io.BytesIO()
    small.save(stream, "JPEG", quality=QUALITY, optimize=True)
    source = f"data:image/jpeg;base64,{base64.b64encode(stream.getvalue()).decode()}"
    lines = "<br>".join(_caption_line(name, text) for name, text in caption)
    alt = escape(" ".join(text for _, text in caption))
    size = f'width="{small.width}" height="{small.height}"'
    tag = f'<img src="{source}" {size} alt="{alt}">'
    return f"<figure>{tag}<figcaption>{lines}</figcaption></figure>"


def _caption_line(name: str, text: str) -> str:
    if not name:
        return escape(text)
    return f"<b>{escape(name)}</b> {escape(text)}"


def pair(*figures: str) -> str:
    """Figures beside each other."""
    return f'<div class="pair">{"".join(figures)}</div>'
