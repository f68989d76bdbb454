"""The segment loop: embed, mine, train in plan order, repeat."""
