"""Tuning in batches: candidates built here, timed on another machine, results taken over here."""
