"""Generation: decoding state, samplers, and the model as people use it."""
