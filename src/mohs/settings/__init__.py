"""What a run is: its settings, their presets, and settings without effect."""
