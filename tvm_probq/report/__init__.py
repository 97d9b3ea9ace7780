"""Tables, accuracy and machine-readable results."""
