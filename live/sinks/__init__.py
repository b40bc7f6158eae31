"""Where answers go: one file a sink."""
