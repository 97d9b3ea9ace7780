"""Target profiles: what a piece of hardware can do, read from data files."""
