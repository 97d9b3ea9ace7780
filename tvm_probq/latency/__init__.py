"""How long layers take on a target: measured, learned from measurements, or a bound."""
