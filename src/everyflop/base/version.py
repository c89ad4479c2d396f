"""The version of everyflop; pyproject.toml has the same."""

VERSION = "0.1.0"
