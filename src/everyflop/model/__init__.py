"""The transformer and its parts, each usable alone."""
