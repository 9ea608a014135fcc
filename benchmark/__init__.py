"""SemiHisto: one harness for semi-supervised segmentation of histopathology images."""

__version__ = "0.1.0"
