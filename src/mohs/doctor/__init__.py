"""What is wrong with a run, or with what another library left."""
