"""What a graph computed must be numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

import numpy as np

from vpt_edge.runtime.errors import SessionError

if TYPE_CHECKING:
    from numpy.typing import NDArray


def check_finite(graph: str, values: NDArray[np.float32]) -> None:
    """Raise SessionError, which names ``graph``, for ``values`` among which one is not finite."""
    if not np.isfinite(values).all():
        refuse_numbers(graph)


def refuse_numbers(graph: str) -> NoReturn:
    """Raise SessionError for what ``graph`` computed."""
    raise SessionError(
        f"the graph {graph} computed numbers that are not finite",
        "export with a wider --precision, fp32 at last; if it is fp32, the checkpoint's weights "
        "are to blame",
    )
