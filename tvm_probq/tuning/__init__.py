"""Build tuning: the loop sizes of each layer's kernel, measured on a machine, in a database."""
