"""What people search in: items with their vectors, in a store that changes by transactions."""
