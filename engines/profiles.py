"""The optimization profiles of a graph, from the bounds that the manifest gives for its dynamic
axes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from vpt_edge.runtime.sessions.plan import Profile, Shape

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vpt_edge.runtime.manifest import Graph, Tensor

Bounds: TypeAlias = dict[str, tuple[int, int, int]]

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
        bounds = _bucket(graph, axes, divisor)
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


def _bucket(graph: Graph, axes: Sequence[str], divisor: int) -> Bounds:
    """The bounds of ``axes`` in a bucket, which is tuned for the largest size of the first of them.

    Of another axis that size has what goes with it as usual: windows, of which a picture that is
    one row has several times as many as a square one of as many patches.
    """
    tops = {axis: _top(graph.bounds[axis], divisor) for axis in axes}
    _, whole, _ = graph.bounds[axes[0]]
    bounds = Bounds()
    for axis, top in tops.items():
        least, usual, _ = graph.bounds[axis]
        share = -(-usual * tops[axes[0]] // max(whole, 1))  # rounded up
        bounds[axis] = (least, min(max(share, least), top), top)
    return bounds


def _top(bound: tuple[int, int, int], divisor: int) -> int:
    """The largest size of a bucket: whole multiples of the least, for an axis such as ``patches``
    comes in fours.
    """
    least, _, largest = bound
    if divisor == 1:
        return largest
    unit = max(least, 1)
    units = -(-(largest // unit) // divisor)  # rounded up
    return min(units * unit, largest)


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
