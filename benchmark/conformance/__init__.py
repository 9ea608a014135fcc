"""The checks that every method must pass."""
