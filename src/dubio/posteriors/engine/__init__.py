"""One engine: a stack of adapters run over one frozen base, forward, back and linearised."""
