"""Files: written whole or not at all, read as plain data, compared by digests."""
