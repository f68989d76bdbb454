"""Why the most confident matches are wrong, what each cause costs, and what to correct."""
