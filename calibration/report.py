"""Self-contained HTML pages: tables, bar plots and pictures in one file, without a script or a
network."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import replace
from html import escape
from typing import TYPE_CHECKING

from PIL import Image

from vpt_edge.calibration.evaluation import accuracy, latency, worst
from vpt_edge.runtime.errors import ImageError
from vpt_edge.runtime.overlay import describe
from vpt_edge.runtime.result import Answer, Usage

if TYPE_CHECKING:
    from vpt_edge.calibration.evaluation import Evaluation, Outcome
    from vpt_edge.calibration.samples import Sample

SIDE = 480  # of a picture's longest side
QUALITY = 72
COLOURS = ("#2f6fdb", "#a9b4c2", "#e0803a", "#4a9d68")
LABEL, PLOT, VALUE, BAR, GAP = 170, 420, 90, 14, 12  # of a bar plot, in pixels
STYLE = """
body{margin:0 auto;max-width:1080px;padding:2.5rem 1.5rem 4rem;background:#fbfaf8;color:#22262b;
font:16px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif}
h1{font-size:1.7rem;line-height:1.25;margin:0 0 .4rem}h2{font-size:1.15rem;margin:2.4rem 0 .7rem}
p{max-width:46rem;margin:.5rem 0}table{border-collapse:collapse;font-variant-numeric:tabular-nums}
th,td{padding:.3rem 1.2rem .3rem 0;border-bottom:1px solid #e4e1db;text-align:left;vertical-align:top}
th{font-weight:600;color:#5b636d}td+td,th+th{text-align:right}
svg{display:block;max-width:100%;height:auto;margin:.6rem 0}svg text{font:13px system-ui,sans-serif;fill:#22262b}
figure{margin:0}figcaption{font-size:.9rem;color:#5b636d}figcaption b{color:#22262b}
img{max-width:100%;border-radius:4px}
.pair{display:grid;grid-template-columns:repeat(auto-fit,minmax(300px,480px));gap:1.2rem;margin:0 0 1.8rem}
.sample{margin:1.2rem 0 .4rem}.good{color:#2c7a4b}.bad{color:#b3341f}
@media print{.pair{break-inside:avoid}}
""".replace("\n", "")


def html(title: str, sections: Sequence[tuple[str, str]]) -> str:
    """A page of (heading, markup) sections.

    The markup is trusted: make it with the functions below.
    """
    body = "\n".join(
        f"<section><h2>{escape(heading)}</h2>\n{markup}\n</section>" for heading, markup in sections
    )
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head>\n"
        f"<body><h1>{escape(title)}</h1>\n{body}\n</body></html>\n"
    )


def paragraph(text: str, kind: str = "") -> str:
    """``kind`` is "good", "bad", "sample" or nothing."""
    return f'<p class="{kind}">{escape(text)}</p>' if kind else f"<p>{escape(text)}</p>"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """The first column to the left, the others to the right."""
    head = "".join(f"<th>{escape(cell)}</th>" for cell in header)
    body = "".join(
        "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def bars(labels: Sequence[str], series: Mapping[str, Sequence[float]], form: str = "{:.3g}") -> str:
    """Horizontal bars from 0: for each label one of each series, each value of at least 0, written
    as ``form``."""
    largest = max((value for values in series.values() for value in values), default=0) or 1
    step, head = BAR * len(series) + GAP, 24 if len(series) > 1 else 0
    width, height = LABEL + PLOT + VALUE, head + step * len(labels)
    parts = [f'<svg role="img" viewBox="0 0 {width} {height}" width="{width}" height="{height}">']
    for column, name in enumerate(series if head else ()):
        left = LABEL + column * PLOT // len(series)
        parts.append(
            f'<rect x="{left}" y="3" width="10" height="10" rx="2" fill="{COLOURS[column % 4]}"/>'
        )
        parts.append(f'<text x="{left + 16}" y="12">{escape(name)}</text>')
    for row, label in enumerate(labels):
        top = head + row * step
        middle = top + BAR * len(series) / 2 + 4
        parts.append(
            f'<text x="{LABEL - 10}" y="{middle:g}" text-anchor="end">{escape(label)}</text>'
        )
        for column, values in enumerate(series.values()):
            length, y = PLOT * values[row] / largest, top + column * BAR
            parts.append(
                f'<rect x="{LABEL}" y="{y}" width="{length:.1f}" height="{BAR - 2}" rx="2" '
                f'fill="{COLOURS[column % 4]}"/>'
                f'<text x="{LABEL + length + 6:.1f}" y="{y + BAR - 3}">{escape(form.format(values[row]))}</text>'
            )
    return "".join(parts) + "</svg>"


def picture(image: Image.Image, caption: Sequence[tuple[str, str]] = ()) -> str:
    """``image`` at 480 pixels on its longest side, and below it ``caption``: names with their
    texts."""
    small = image.convert("RGB")
    small.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    stream = io.BytesIO()
    small.save(stream, "JPEG", quality=QUALITY, optimize=True)
    source = f"data:image/jpeg;base64,{base64.b64encode(stream.getvalue()).decode()}"
    lines = "<br>".join(
        (f"<b>{escape(name)}</b> " if name else "") + escape(text) for name, text in caption
    )
    alt = escape(" ".join(text for _, text in caption))
    size = f'width="{small.width}" height="{small.height}"'
    return (
        f'<figure><img src="{source}" {size} alt="{alt}"><figcaption>{lines}</figcaption></figure>'
    )


def pair(*figures: str) -> str:
    """Figures beside each other."""
    return f'<div class="pair">{"".join(figures)}</div>'


def page(evaluation: Evaluation, more: Sequence[tuple[str, str]] = ()) -> str:
    """The report of vpt-eval: figures, latency, ``more`` sections, and the worst twenty samples
    with pictures."""
    verdict = []
    if evaluation.max_drop is not None:
        text = f"allowed drop {evaluation.max_drop:g} points: {'held' if evaluation.passed else 'exceeded'}"
        verdict = [paragraph(text[0].upper() + text[1:], "good" if evaluation.passed else "bad")]
    names = list(evaluation.runs)
    sections = [("Summary", "".join([*verdict, table(["", *names], figures(evaluation))]))]
    if evaluation.agreement:
        sections.append(
            ("Agreement", table(["", f"with {evaluation.other_name}"], agreements(evaluation)))
        )
    seconds = {name: latency(outcomes) for name, outcomes in evaluation.runs.items()}
    stages = list(seconds[names[0]])
    medians = {
        name: [1000 * stage.median for stage in found.values()] for name, found in seconds.items()
    }
    header = ["stage, ms", *(f"{name} {what}" for name in names for what in ("median", "p95"))]
    plot = bars(stages, medians) + table(header, latencies(evaluation))
    sections.append(("Latency", plot if stages else paragraph("No sample was answered.")))
    sections += [*more, ("Worst samples", _worst(evaluation))]
    return html(
        f"{evaluation.name}" + (f" against {evaluation.other_name}" if evaluation.others else ""),
        sections,
    )


def figures(evaluation: Evaluation) -> list[tuple[str, ...]]:
    """Rows of a name and a text for each bundle."""
    runs = list(evaluation.runs.values())
    rows = [("samples", *(f"{len(run):,}" for run in runs))]
    scored = [accuracy(run) for run in runs]
    labelled = sum(outcome.score is not None for outcome in evaluation.outcomes)
    if labelled:
        rows.append(
            (f"accuracy ({evaluation.metric}, {labelled:,} true answers)", *map(_accuracy, scored))
        )
    looked = [sum(bool(outcome.looks) for outcome in run) / len(run) for run in runs]
    rows.append(("looked again", *map(_percent, looked)))
    for reason in sorted({outcome.finish_reason for run in runs for outcome in run} - {"stop"}):
        counts = [sum(outcome.finish_reason == reason for outcome in run) for run in runs]
        rows.append((f"finished with {reason}", *map(str, counts)))
    if evaluation.data.unreadable:
        rows.append(
            ("unreadable pictures, left out", *[str(len(evaluation.data.unreadable))] * len(runs))
        )
    return rows


def agreements(evaluation: Evaluation) -> list[tuple[str, str]]:
    """Rows of a name and a text; none without a reference."""
    found = evaluation.agreement
    if found is None:
        return []
    (low, high), points = found.drop_interval, "points" if found.labelled else "% of answers"
    rows = [
        ("drop", f"{found.drop:.2f} {points} (95 %: {low:.2f} to {high:.2f})"),
        ("answers equal", _percent(found.answers_equal)),
        ("triggers equal", _percent(found.triggers_equal)),
        (f"region cells equal, of {found.regions:,}", _percent(found.cells_equal)),
        ("mean overlap of cells", f"{found.cells_iou:.4f}"),
    ]
    if found.first_token_kl is not None:
        rows.append(
            (f"first-token KL, of {found.first_tokens:,}", f"{found.first_token_kl:.3g} nats")
        )
    return rows


def latencies(evaluation: Evaluation) -> list[tuple[str, ...]]:
    """Rows of a stage, and median and 95th percentile in milliseconds for each bundle."""
    found = [latency(run) for run in evaluation.runs.values()]
    return [
        (stage, *(f"{1000 * value:.2f}" for run in found for value in run[stage]))
        for stage in found[0]
    ]


def _percent(share: float) -> str:
    return f"{100 * share:.2f} %"


def _accuracy(scored: tuple[float, tuple[float, float]] | None) -> str:
    if scored is None:
        return ""
    mean, (low, high) = scored
    return f"{_percent(mean)} (95 %: {100 * low:.2f} to {100 * high:.2f})"


def _worst(evaluation: Evaluation) -> str:
    indices = worst(evaluation.outcomes, evaluation.others)
    if not indices:
        return paragraph("No sample differs." if evaluation.others else "No sample is wrong.")
    parts = []
    for index in indices:
        sample = evaluation.data.samples[index]
        truth = "" if sample.answer is None else f" True answer: {sample.answer}"
        parts.append(paragraph(f"{sample.image.name}: {sample.question}{truth}", "sample"))
        parts.append(
            pair(*(_figure(name, sample, run[index]) for name, run in evaluation.runs.items()))
        )
    return "\n".join(parts)


def _figure(name: str, sample: Sample, outcome: Outcome) -> str:
    looks = "; ".join(describe(look) for look in outcome.looks) or "answered at the first look"
    answer = outcome.error or outcome.text
    try:
        plot = _overlay(sample, outcome)
    except (
        ImageError,
        ValueError,
        ZeroDivisionError,
    ) as error:  # the last two: a crop without a pixel
        return paragraph(f"{name}: {answer} (no picture: {error})")
    return picture(plot, [(f"{name}:", answer), ("", looks)])


def _overlay(sample: Sample, outcome: Outcome) -> Image.Image:
    """What ``Answer.plot`` draws: outcomes keep no pictures, so the crops are cut again."""
    image = sample.open()
    looks = tuple(
        replace(look, crop=image.crop(look.box) if look.box else None) for look in outcome.looks
    )
    usage = Usage(0, 0, 0, 0, 0, 0, {})
    return Answer(
        outcome.text, outcome.raw, (), looks, outcome.finish_reason, usage, sample.question, image
    ).plot()
