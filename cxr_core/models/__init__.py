"""Architectures: a catalogue that anyone may read, and builders that need Keras."""
