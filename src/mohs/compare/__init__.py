"""Strategies side by side: the same network, pictures and budget, several seeds, both protocols, paired intervals."""
