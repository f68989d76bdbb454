"""What embeddings show: collapsed, copied, mixed up, or of another network."""
