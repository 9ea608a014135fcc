"""Generators of documents and goldens, and benches."""
