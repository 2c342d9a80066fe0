"""How good a model is, with error bars: perplexity and bits per byte of any text."""
