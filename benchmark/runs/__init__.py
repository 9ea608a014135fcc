"""Runs: requests, folders, locks, records, experiments and grids."""
