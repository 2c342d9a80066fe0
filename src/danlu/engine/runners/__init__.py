"""What computes the engine's steps: every runner computes the same, each in the way that suits some models and machines."""
