"""Files: written whole or not at all, read as plain data, told apart by digests."""
