"""How fast this machine is: stages, several utterances at once, processes as a whole, kernels against their roof."""
