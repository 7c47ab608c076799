"""How good is a model: predictions table, metrics with intervals, the leaderboard, plots and reports."""
