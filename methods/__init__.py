"""One semi-supervised method a file; `python -m benchmark list methods` reads them."""
