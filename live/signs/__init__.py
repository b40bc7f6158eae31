"""Words on signs, plates, labels and price tags, set into photographs: still and moving, with the
truth about them.

It needs the extra: pip install 'vpt-edge[signs]'.
"""
