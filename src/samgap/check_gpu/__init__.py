"""Does samgap work on this GPU, and how fast? `python -m samgap.check_gpu`; `--rehearse` runs the same on the CPU."""
