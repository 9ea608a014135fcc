"""Our losses beside the released code, on copied logits: `python -m tools.parity FOLDER`.

FOLDER holds a clone of each repository that a file here names, called by the repository's name. Of a released script
the training step itself is run, from the head of its loop to `optimizer.zero_grad()`: on the CPU, in double precision,
with logits, labels and masks of ours in place of networks and data. Nothing of it is copied into this repository. A new
comparison is a file here, called like its method, with `REPOSITORY` and `compare(folder)`.
"""
