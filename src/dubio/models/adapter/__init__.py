"""An adapter's folder: its files, keys and settings, and how it is put on its base."""
