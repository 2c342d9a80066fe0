"""Gaussian error linear unit (Hendrycks & Gimpel 2016, arXiv:1606.08415), exact or in its tanh form, by Hugging Face's names."""

import torch.nn.functional as F
from torch import Tensor

EXACT = ("gelu", "gelu_python")
"""x times the normal distribution's share below x, by the error function."""
TANH = ("gelu_new", "gelu_fast", "gelu_pytorch_tanh", "gelu_python_tanh", "gelu_accurate")
"""The paper's tanh approximation; the names differ in how transformers computes it, by a last digit."""


def gelu(x: Tensor, name: str = "gelu") -> Tensor:
    """x of any shape; raises KeyError for a name that is neither.

    >>> import torch
    >>> [round(gelu(torch.tensor(1.0), name).item(), 4) for name in ("gelu", "gelu_new")]
    [0.8413, 0.8412]
    """
    form = {**dict.fromkeys(EXACT, "none"), **dict.fromkeys(TANH, "tanh")}[name]
    return F.gelu(x, approximate=form)
