"""What the workloads are compared with: plain PyTorch for speed, plain models for quality."""
