"""Mining: for each anchor a negative at a wanted hardness, picked over the whole bank."""
