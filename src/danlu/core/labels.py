"""What marks a place of a row that asks for nothing; PyTorch's cross entropy leaves the same number out."""

NO_LABEL = -100
"""A target that asks for nothing."""
