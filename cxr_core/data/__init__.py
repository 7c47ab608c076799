"""From files to frozen splits: sources, index, packed arrays, manifests."""
