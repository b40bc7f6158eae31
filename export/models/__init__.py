"""The models: what each tower's checkpoint holds and how its graphs are built."""
