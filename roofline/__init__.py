"""How close a kernel, or a whole training step, runs to what the hardware was measured to do."""
