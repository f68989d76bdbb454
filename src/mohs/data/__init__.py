"""Pictures, classes and roles: what there is to learn from."""
