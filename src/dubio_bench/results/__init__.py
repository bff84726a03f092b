"""What a grid has found: outcomes, tables, statistics over cells, and their export."""
