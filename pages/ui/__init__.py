"""What several pages show alike; the only place with Streamlit caches."""
