"""Deep networks as chains of blocks, and the programme that is optimal on chains."""
