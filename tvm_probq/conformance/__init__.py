"""What becomes of each ONNX operator: ONNX's own node tests, quantized and compiled."""
