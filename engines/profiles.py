"""The optimization profiles of a graph, from the bounds that the manifest gives for its dynamic
axes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vpt_edge.runtime.sessions.plan import Profile, Shape

if TYPE_CHECKING:
    from vpt_edge.runtime.manifest import Graph, Tensor

    Bounds = dict[str, tuple[int, int, int]]

BUCKETS = (4, 2, 1)  # a bucket reaches up to the largest size divided by this
# The longest sequence of a step. TensorRT-RTX writes all weights into the plan once more for a
# profile of exactly one.
STEP = {"tensorrt": 1, "tensorrt-rtx": 2}


def make_profiles(graph: Graph, library: str) -> tuple[Profile, ...]:
    """The profiles of ``graph`` for "tensorrt" or "tensorrt-rtx", from the smallest to the largest.

    A runtime takes the first that holds its shapes.
    """
    axes = [side for tensor in graph.inputs for side in tensor.shape if isinstance(side, str)]
    if not axes:
        return (_profile("static", graph, {}),)
    if "sequence" in axes:
        return _decoder(graph, STEP[library])
    profiles = dict[str, Profile]()
    for divisor in BUCKETS:
        bounds = {axis: _bucket(graph.bounds[axis], divisor) for axis in axes}
        name = f"to {bounds[axes[0]][2]} {axes[0]}"
        profiles.setdefault(name, _profile(name, graph, bounds))
    return tuple(profiles.values())


def _decoder(graph: Graph, step: int) -> tuple[Profile, ...]:
    """One token at a time, which is most of the work, and a piece of a prompt."""
    least, _, largest = graph.bounds["sequence"]
    prefill = _profile("prefill", graph, {})
    if least > 1 or largest <= step:
        return (prefill,)
    return _profile("step", graph, {"sequence": (1, 1, step)}), prefill


def _bucket(bound: tuple[int, int, int], divisor: int) -> tuple[int, int, int]:
    """Whole multiples of the least size, for an axis such as ``patches`` comes in fours; tuned for
    the largest.
    """
    least, _, largest = bound
    if divisor == 1:
        return least, largest, largest
    unit = max(least, 1)
    units = -(-(largest // unit) // divisor)  # rounded up
    top = min(units * unit, largest)
    return least, top, top


def _profile(name: str, graph: Graph, bounds: Bounds) -> Profile:
    """The shapes of all inputs, with ``bounds`` in place of the graph's own where given."""
    bounds = {**graph.bounds, **bounds}
    shapes = dict[str, tuple[Shape, Shape, Shape]]()
    for tensor in graph.inputs:
        least, usual, largest = (_shape(tensor, bounds, which) for which in range(3))
        shapes[tensor.name] = (least, usual, largest)
    return Profile(name, shapes)


def _shape(tensor: Tensor, bounds: Bounds, which: int) -> Shape:
    sides = list[int]()
    for side in tensor.shape:
        sides.append(bounds[side][which] if isinstance(side, str) else side)
    return tuple(sides)
