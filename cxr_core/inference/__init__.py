"""A trained run answers for an image. Needs Keras."""
