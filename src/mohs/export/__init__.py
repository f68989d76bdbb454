"""An embedder, its vectors and an index, in forms that other programs take."""
