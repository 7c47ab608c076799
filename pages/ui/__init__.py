"""Parts that several pages share; the only place with Streamlit caches."""
