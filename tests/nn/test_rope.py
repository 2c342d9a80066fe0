"""Rotary positions: scores depend on distance alone, lengths do not change."""

import torch

from danlu.nn.rope import rotate_plain, turns


def test_scores_depend_on_the_distance_alone():
    generator = torch.Generator().manual_seed(0)
    q, k = (torch.randn(1, 1, 1, 6, generator=generator).expand(1, 9, 1, 6) for _ in range(2))
    cos, sin = turns(torch.arange(9), 6, 100.0)
    score = torch.einsum("bthk,bshk->ts", rotate_plain(q, cos, sin), rotate_plain(k, cos, sin))
    for distance in range(-8, 9):
        diagonal = score.diagonal(distance)
        torch.testing.assert_close(diagonal, diagonal[:1].expand_as(diagonal), rtol=1e-4, atol=1e-5)


def test_turning_keeps_lengths():
    x = torch.randn(2, 5, 3, 8, generator=torch.Generator().manual_seed(1))
    turned = rotate_plain(x, *turns(torch.arange(5) + 1000, 8, 10_000.0))
    torch.testing.assert_close(turned.norm(dim=-1), x.norm(dim=-1))
    assert not torch.allclose(turned, x)


def test_rows_may_have_places_of_their_own():
    x = torch.randn(2, 5, 3, 8, generator=torch.Generator().manual_seed(2))
    places = torch.tensor([[0, 1, 2, 3, 4], [0, 1, 0, 1, 2]])
    together = rotate_plain(x, *turns(places, 8, 50.0))
    for row in range(2):
        torch.testing.assert_close(together[row : row + 1], rotate_plain(x[row : row + 1], *turns(places[row], 8, 50.0)))
