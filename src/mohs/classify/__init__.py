"""A classifier on the frozen embedder: heads, calibrated probabilities, none-of-these, measures, its folder."""
