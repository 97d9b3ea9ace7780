"""From a model, a plan and a calibration record to a compiled module."""
