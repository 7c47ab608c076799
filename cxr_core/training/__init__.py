"""One training, in a process of its own: batches, fit, and the work around it. Needs Keras."""
