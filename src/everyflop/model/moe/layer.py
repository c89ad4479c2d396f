"""A Mixture-of-Experts feed-forward part: route, dispatch, experts, combine, plus the shared expert.

Shapes: B sequences, T positions, H hidden.
"""

from torch import Tensor, nn

from everyflop.model.layers import SwiGLU
from everyflop.model.moe.balance import RouterStats, router_stats
from everyflop.model.moe.dispatch import Dispatch, LocalDispatch
from everyflop.model.moe.experts import Experts
from everyflop.model.moe.noise import RoutingNoise
from everyflop.model.moe.router import Router
from everyflop.spec.model import ModelSpec


class MoE(nn.Module):
    """Dropless: every token reaches all experts it chose. The shared expert has no gate and is not scaled."""

    def __init__(self, spec: ModelSpec, layer: int, dispatch: Dispatch | None = None):
        super().__init__()
        self.router = Router(spec, layer)
        self.experts = Experts(spec.n_experts, spec.hidden, spec.expert_width)
        self.shared = SwiGLU(spec.hidden, spec.shared_width) if spec.n_shared_experts else None
        self.dispatch = dispatch or LocalDispatch()

    def forward(self, x_BTH: Tensor, noise: RoutingNoise | None) -> tuple[Tensor, RouterStats]:
        """Map (B, T, H) to the same shape, with the router's statistics."""
        x_TH = x_BTH.flatten(0, 1)
        routing = self.router(x_TH, noise)
        sent = self.dispatch.dispatch(x_TH, routing.ids_TK, routing.weights_TK, self.router.spec.n_experts)
        y_TH = self.dispatch.combine(self.experts(sent), sent)
        if self.shared is not None:
            y_TH = y_TH + self.shared(x_TH)
        return y_TH.view_as(x_BTH), router_stats(routing, len(x_BTH))
