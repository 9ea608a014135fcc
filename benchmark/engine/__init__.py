"""Training, evaluation and measurement of one run."""
