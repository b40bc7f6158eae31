"""A machine with Debian's kernel and its vivid driver: a Video4Linux camera that can fail."""
