"""Cameras, streams and clips in, answers out.

It needs the extra: pip install 'vpt-edge[live]'.
"""

from vpt_edge.live.frame import Frame

__all__ = ["Frame"]
