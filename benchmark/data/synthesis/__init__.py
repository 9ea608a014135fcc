"""The generator of the synthetic data set: chance by name, layout of glands, and their staining."""
