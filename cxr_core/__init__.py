"""Train, evaluate and try chest X-ray classifiers. Research software, not a medical device."""

__version__ = "0.2.0"
