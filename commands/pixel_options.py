"""How many pixels a view has: the options of the commands that make bundles and ask them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse

    from vpt_edge.runtime.options import AskOptions

VIEWS = {"first": "each picture as it is first shown", "look": "each look"}


def add_limits(parser: argparse.ArgumentParser) -> None:
    """What the graphs of a bundle are made for."""
    for name, limit in (("min", "least"), ("max", "most")):
        parser.add_argument(
            f"--{name}-pixels",
            type=int,
            metavar="N",
            help=f"the {limit} pixels in which a picture is shown (default: the checkpoint's, and "
            "half of the cache at most)",
        )


def add_budget(parser: argparse.ArgumentParser, usual: str = "the bundle's") -> None:
    """The most pixels of first views and of looks; ``usual``: which they have by default."""
    for name, views in VIEWS.items():
        parser.add_argument(
            f"--{name}-max-pixels",
            type=int,
            metavar="N",
            help=f"the most pixels of {views} (default {usual})",
        )


def read_budget(options: argparse.Namespace) -> AskOptions:
    """What the options of ``add_budget`` say, as those of a question."""
    return {
        "first_max_pixels": options.first_max_pixels,
        "look_max_pixels": options.look_max_pixels,
    }
