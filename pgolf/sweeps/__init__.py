"""What jobs of a sweep share: cells that are done, free GPUs, the launcher they end with."""
