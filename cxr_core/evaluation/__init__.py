"""How good is a model: predictions table, metrics with intervals, the paper's figures, and charts of all of them."""
