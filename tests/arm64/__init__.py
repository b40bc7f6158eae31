"""The wheel in a Debian for AArch64, whose programs an emulator runs on this machine."""
