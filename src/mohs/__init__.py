"""Mohs."""
