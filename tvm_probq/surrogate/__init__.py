"""Constants of the surrogates, from weights and calibration."""
