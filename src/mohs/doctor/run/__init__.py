"""What only a run of Mohs shows: its plans, banks, pictures and held-out curve."""
