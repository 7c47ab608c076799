"""Evaluation of a model: predictions table, metrics with intervals, the leaderboard, plots and reports."""
