"""Compiling the kernels, or not."""

import torch

from danlu.nn import compiled, kernels


def test_a_compiler_that_fails_is_said_and_the_plain_twin_serves(tmp_path, monkeypatch):
    broken = tmp_path / "cc"
    broken.write_text("#!/bin/sh\necho no such flag >&2\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setenv("CC", str(broken))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    told = []
    monkeypatch.setattr(compiled.log, "warn", told.append)
    assert kernels.library.__wrapped__(torch.float32) is None
    assert len(told) == 1 and "no such flag" in told[0]
