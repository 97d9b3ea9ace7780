"""Ranges and surrogate fits from calibration data."""
