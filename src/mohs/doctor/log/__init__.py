"""What a training log shows: its columns, where its losses rest, and the causes of it."""
