"""The posteriors, one file each: equations, paper, cost, and how samples are drawn."""
