"""Hardware profiles, one file each, data only."""
