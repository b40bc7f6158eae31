"""From a VPT checkpoint to a bundle; needs the extra ``export``."""
