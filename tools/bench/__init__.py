"""Measurements; each is a command that prints one JSON value, and none is a test."""
