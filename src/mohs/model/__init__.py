"""Backbone, embedding head, save and load."""
