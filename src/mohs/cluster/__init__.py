"""Embedding and mining on the machines of a Ray cluster: the same results as on one."""
