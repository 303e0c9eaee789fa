"""The `hyperalign` command."""
