"""One verb of the command line a file: `add` describes it to the parser, `run` does it."""
