"""How hard a negative is: curves over progress, and scales that say what a hardness means."""
