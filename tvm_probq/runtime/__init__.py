"""Running compiled artefacts on this machine."""
