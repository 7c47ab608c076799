"""Check of an input image: an upright frontal chest X-ray like those of the training? Needs no Keras."""
