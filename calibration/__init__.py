"""INT8 and INT4 ranges, and the gate that judges their result."""
