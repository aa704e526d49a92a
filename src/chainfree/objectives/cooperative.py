"""Cooperative learning: a generator proposes, a few Langevin steps revise, both learn from the revision.

Xie, Lu, Gao, Zhu, Wu, "Cooperative Training of Descriptor and Generator Networks", TPAMI 2018, arXiv 1609.09408.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import Parameter

from ..checks import require_non_negative, require_positive, require_positive_int
from ..functional.contrastive import contrast
from ..generators.base import Draw, LatentGenerator, log_prior
from ..samplers import langevin, mala
from ..typing import Batch, Energy, Update
from .parameters import trainable

__all__ = ["Cooperative"]


class Cooperative(nn.Module):
    r"""MCMC teaching: :math:`\tilde x` is what Langevin steps on E make of a sample :math:`g(z) + \sigma\varepsilon`.

    .. math::
        L_E &= E_p[E(x)] - E[E(\tilde x)]
               + \tfrac\gamma2\, E_p\lVert\nabla_x E\rVert^2 + \alpha\,(E_p[E^2] + E[E(\tilde x)^2]) \\
        L_q &= -E[\log N(\tilde x;\, g(z), \sigma^2 I)]

    The generator regresses the revision onto its latent, by its likelihood: σ is learned with it, within its bounds. To hold
    it, as the paper does, freeze it: ``generator.log_sigma.requires_grad_(False)``.

    The paper's experiments take the latent z that made the proposal. But the revision has forgotten a part of z, so the
    regression pulls g towards its mean at every round, whatever the data: to :math:`(1 - h/2)^T g` where E is that of
    N(0, I). Unless revisions are small, the generator collapses and the energy may fit short chains in place of the data.
    With ``inference_steps`` z is first moved by steps of MALA on :math:`q(z \mid \tilde x)`, where it nearly is already: then
    :math:`\nabla L_q` is that of :math:`-E[\log q(\tilde x)]`, maximum likelihood on the revisions.

    Players in the order of their turns: ``energy``, ``generator``.

    Args:
        generator: q.
        steps: Langevin steps of the revision.
        step_size: of these, in squared units of the data.
        noise: of these, in units of the data; the root of ``step_size`` by default. See
            :func:`chainfree.samplers.langevin`.
        inference_steps: of MALA on z; one forward and backward pass through the generator each.
        inference_step_size: of these, in units of :math:`\sigma^2`, which is about the posterior's variance where g has
            slope 1. See the metric ``acceptance``.
        gradient_penalty: γ, in nats times squared units of the data; not in the paper.
        energy_square: α; not in the paper.
        samples: of the generator a round; as many as data by default.

    Raises:
        ValueError: a setting out of its range.
    """

    def __init__(
        self,
        generator: LatentGenerator,
        *,
        steps: int = 10,
        step_size: float = 0.01,
        noise: float | None = None,
        inference_steps: int = 0,
        inference_step_size: float = 0.5,
        gradient_penalty: float = 0.0,
        energy_square: float = 0.0,
        samples: int | None = None,
    ) -> None:
        super().__init__()
        require_positive_int("steps", steps)
        require_positive("step_size", step_size)
        if noise is not None:
            require_non_negative("noise", noise)
        if inference_steps:
            require_positive_int("inference_steps", inference_steps)
        require_positive("inference_step_size", inference_step_size)
        require_non_negative("gradient_penalty", gradient_penalty)
        require_non_negative("energy_square", energy_square)
        if samples is not None:
            require_positive_int("samples", samples)
        self.generator = generator
        self.steps, self.step_size, self.noise = steps, step_size, noise
        self.inference_steps, self.inference_step_size = inference_steps, inference_step_size
        self.gradient_penalty = gradient_penalty
        self.energy_square = energy_square
        self.samples = samples

    def players(self, energy: nn.Module, /) -> Mapping[str, Sequence[Parameter]]:
        """The energy, the generator."""
        return {"energy": trainable(energy), "generator": trainable(self.generator)}

    def updates(self, energy: Energy, batch: Batch, step: int, generator: torch.Generator) -> Iterator[Update]:
        """The turns of one round."""
        draw = self.generator.sample(len(batch) if self.samples is None else self.samples, generator=generator)
        proposed = draw.x.detach()
        revised = langevin(
            energy, proposed, steps=self.steps, step_size=self.step_size, noise=self.noise, generator=generator
        )
        found = contrast(
            energy,
            batch.x,
            revised,
            gradient_penalty=self.gradient_penalty,
            energy_square=self.energy_square,
        )
        metrics = {
            "energy_data": found.data.detach().mean(),
            "energy_samples": found.samples.detach().mean(),
            "revision": (revised - proposed).square().mean().sqrt(),
            "sigma": self.generator.sigma.detach(),
        }
        yield Update("energy", found.loss, metrics)
        mean, metrics = draw.mean, {}
        if self.inference_steps:
            z, metrics["acceptance"] = self._inferred(revised, draw, generator)
            mean = self.generator.decode(z, draw.statistics)
        loss = -self.generator.log_likelihood(revised, mean).mean()
        yield Update("generator", loss, {"generator_loss": loss.detach(), **metrics})

    def _inferred(self, x: Tensor, draw: Draw, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Latents after steps on q(z | x), from those that x came from, and the mean acceptance."""
        net, constants = self.generator, draw.constants

        def log_joint(latents: Tensor) -> Tensor:
            return net.log_likelihood(x, net.decode(latents, constants)) + log_prior(latents)

        state = mala.init(log_joint, draw.z)
        step_size = self.inference_step_size * net.sigma.detach().square()
        acceptance = torch.zeros_like(step_size)
        for _ in range(self.inference_steps):
            state, info = mala.step(log_joint, state, step_size=step_size, generator=generator)
            acceptance += info.acceptance.mean() / self.inference_steps
        return state.x, acceptance
