"""What a person sees: step lines, tables, info blocks, times, and errors, worded and laid out as Convox does."""
