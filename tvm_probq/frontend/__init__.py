"""From an ONNX file to the canonical, annotated float module."""
