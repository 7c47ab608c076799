"""Answers over HTTP, beside the pages: the endpoint and what it sends."""
