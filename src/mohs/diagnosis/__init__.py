"""What is wrong with a result, why, and what to change."""
