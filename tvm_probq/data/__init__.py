"""Model cards, data sets, input corruptions and metrics."""
