"""The commands: one file a vpt-X."""
