"""Training: the loop, one step, evaluation."""
