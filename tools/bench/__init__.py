"""Measurements; each is a command, and none is a test."""
