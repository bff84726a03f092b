"""What a grid is: its config, its cells and steps, published numbers, all checked before any work."""
