"""Commands that write documents and golden losses, and benchmarks of speed and memory."""
