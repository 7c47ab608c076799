"""Work in the background: trainings in a queue, and additions of datasets. Knows no Keras; all state is on disk."""
