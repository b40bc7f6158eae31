"""Requests in, answers out: an endpoint as OpenAI's clients know it, and a page.

It needs the extra: pip install 'vpt-edge[serve]'.
"""

from vpt_edge.server.app import create_app
from vpt_edge.server.service import Service
from vpt_edge.server.settings import Settings

__all__ = ["Service", "Settings", "create_app"]
