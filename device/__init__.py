"""The machine: what it is, what it has, how fast it answers."""
