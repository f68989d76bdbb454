"""What training lowers: losses on the plan's own triplets, losses of a batch, and those of a library."""
