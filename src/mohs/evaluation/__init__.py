"""The truth about a result."""
