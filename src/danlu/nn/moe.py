"""Mixture of experts (Shazeer et al. 2017, arXiv:1701.06538): a router sends each token to a few of many feed-forward layers.

Routers, the balance that keeps all experts busy, and the layer of both. How experts compute: experts.py. Leaves out expert
capacities (nothing is dropped) and noise on the logits. N tokens, E experts, K choices of a token, D width.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from danlu.nn.experts import Experts
from danlu.nn.norm import RMSNorm


@dataclass(frozen=True)
class Routing:
    """Where each token goes. Logits and shares are float32 whatever the activations (arXiv:2101.03961, section 2.4)."""

    logits_NE: Tensor
    expert_NK: Tensor
    share_NK: Tensor
    """Weights of the chosen experts' outputs."""


class SoftmaxRouter(nn.Module):
    """The K most probable experts, weighed by their probabilities.

    normalised: shares of a token add up to one (Mixtral, arXiv:2401.04088, section 2.1); that is the softmax over the K chosen
    logits. Otherwise the shares are those of the softmax over all experts.
    """

    def __init__(self, width: int, experts: int, choices: int, normalised: bool):
        super().__init__()
        self.choices, self.normalised = choices, normalised
        self.weight = nn.Parameter(torch.empty(experts, width))

    def forward(self, x_ND: Tensor) -> Routing:
        logits_NE = F.linear(x_ND.float(), self.weight.float())
        share_NK, expert_NK = logits_NE.softmax(-1).topk(self.choices)
        return Routing(logits_NE, expert_NK, share_NK / share_NK.sum(-1, keepdim=True) if self.normalised else share_NK)


class GroupedRouter(nn.Module):
    """Sigmoid scores; a bias that only chooses, never weighs, keeps the experts balanced; a token stays within a few groups.

    Source: DeepSeek-V3 (arXiv:2412.19437), section 2.1.2, eq. 12-16; a group's score is the sum of its two best experts.
    """

    e_score_correction_bias: Tensor

    def __init__(
        self, width: int, experts: int, choices: int, normalised: bool, *, groups: int, chosen_groups: int, scale: float
    ):
        super().__init__()
        self.choices, self.normalised = choices, normalised
        self.groups, self.chosen_groups, self.scale = groups, chosen_groups, scale
        self.weight = nn.Parameter(torch.empty(experts, width))
        self.register_buffer("e_score_correction_bias", torch.zeros(experts))

    def forward(self, x_ND: Tensor) -> Routing:
        logits_NE = F.linear(x_ND.float(), self.weight.float())
        score_NE = logits_NE.sigmoid()
        expert_NK = self.choose(score_NE.detach())
        share_NK = score_NE.gather(1, expert_NK)
        if self.normalised:
            share_NK = share_NK / (share_NK.sum(-1, keepdim=True) + 1e-20)
        return Routing(logits_NE, expert_NK, share_NK * self.scale)

    def choose(self, score_NE: Tensor) -> Tensor:
        """The K best experts of each token, (N, K), within its best groups."""
        biased_NE = score_NE + self.e_score_correction_bias
        biased_NGM = biased_NE.unflatten(1, (self.groups, -1))  # M members of each of G groups
        group_NG = biased_NGM.topk(min(2, biased_NGM.size(2))).values.sum(-1)
        outside_NG = torch.ones_like(group_NG, dtype=torch.bool).scatter_(1, group_NG.topk(self.chosen_groups).indices, False)
        return biased_NGM.masked_fill(outside_NG[..., None], -torch.inf).flatten(1).topk(self.choices).indices

    @torch.no_grad()
    def rebalance(self, tokens_E: Tensor, rate: float) -> None:
        """After a step: lift the bias of experts that got fewer tokens than the mean, lower that of the others.

        Source: Wang et al. 2024 (arXiv:2408.15664), algorithm 1.
        """
        bias_E = self.e_score_correction_bias
        bias_E += rate * (tokens_E.mean() - tokens_E).sign().to(bias_E)


@dataclass(frozen=True)
class Balance:
    """What one layer's routing of one forward pass says about the use of its experts; filling counts like any token."""

    tokens_E: Tensor
    """Tokens that chose each expert, float32."""
    probability_E: Tensor
    """Sum over tokens of the softmax of the logits, with a gradient."""
    square: Tensor
    """Sum over tokens of (log sum exp logits)^2, with a gradient."""
    tokens: int


def balance(routing: Routing) -> Balance:
    """Sums over tokens of one routing."""
    logits_NE = routing.logits_NE
    tokens_E = routing.expert_NK.flatten().bincount(minlength=logits_NE.size(1)).float()
    return Balance(tokens_E, logits_NE.softmax(-1).sum(0), logits_NE.logsumexp(-1).square().sum(), len(logits_NE))


def balance_loss(layers: list[Balance]) -> Tensor:
    """E times the sum over experts of (share of tokens) x (mean probability): K when all experts are used alike.

    Source: Switch Transformer (arXiv:2101.03961), eq. 4-6. Shares and probabilities are taken over all layers together, as
    transformers takes them: an expert's number means the same in every layer.
    """
    total = sum(one.tokens for one in layers)
    tokens_E = torch.stack([one.tokens_E for one in layers]).sum(0)
    probability_E = torch.stack([one.probability_E for one in layers]).sum(0)
    return len(tokens_E) * (tokens_E * probability_E).sum() / total**2


def z_loss(layers: list[Balance]) -> Tensor:
    """Mean over tokens and layers of the squared log-partition of the router: keeps logits small.

    Source: ST-MoE (arXiv:2202.08906), eq. 5.
    """
    return torch.stack([one.square for one in layers]).sum() / sum(one.tokens for one in layers)


class SparseMLP(nn.Module):
    """x (B, T, D), normed by the block's norm -> (B, T, D) through each token's experts, and `shared_experts` where there are.

    `noted` is what the last forward pass says about balance. A caller clears it before each pass; a block that is computed
    again for the backward pass finds it there and leaves it, so that nothing counts twice. `tokens_E` adds up what training
    sends to each expert until someone takes it.
    """

    def __init__(self, gate: SoftmaxRouter | GroupedRouter, experts: Experts, shared: nn.Module | None = None):
        super().__init__()
        self.gate = gate
        self.experts = experts
        if shared is not None:
            self.shared_experts = shared
        self.noted: Balance | None = None
        self.tokens_E: Tensor | None = None

    def forward(self, x: Tensor, norm: RMSNorm) -> Tensor:
        normed = norm(x)
        x_ND = normed.flatten(0, -2)
        routing = self.gate(x_ND)
        if self.training:
            self.note(balance(routing))  # also when it is not kept: a recomputation must do what the first pass did
        y = self.experts(x_ND, routing.expert_NK, routing.share_NK).view(normed.shape)
        return y + self.shared_experts(x, norm) if hasattr(self, "shared_experts") else y

    def note(self, found: Balance) -> None:
        """Keep the balance of this pass and add its tokens to those of the step, unless this pass was noted before."""
        if self.noted is None:
            self.noted = found
            self.tokens_E = found.tokens_E if self.tokens_E is None else self.tokens_E + found.tokens_E

    def take(self) -> Tensor:
        """Tokens that each expert got since the last call, (E,), float32 on this process alone."""
        taken, self.tokens_E = self.tokens_E, None
        return torch.zeros(len(self.gate.weight), device=self.gate.weight.device) if taken is None else taken
