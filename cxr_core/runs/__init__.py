"""The folder of a run: its settings, its state, and what it has written so far."""
