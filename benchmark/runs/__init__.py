"""Runs as folders and records: where they lie, who works on them, what is kept."""
