"""The screens: layout and words. Everything that can be tested without a screen is in `cxr_core`."""
