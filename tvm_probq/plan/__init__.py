"""What is quantized, how, and why: schemes and plans."""
