"""A Llama-shaped decoder, written for training on packed rows on a CPU."""

from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True, slots=True)
class Shape:
    """The sizes of the network, under Hugging Face's names."""

    vocab_size: int
    hidden_size: int = 192
    num_hidden_layers: int = 4
    num_attention_heads: int = 6
    num_key_value_heads: int = 3
    intermediate_size: int = 512
    max_position_embeddings: int = 2048
    rope_theta: float = 10000.0
    rms_norm_eps: float = 1e-5

    @property
    def head_dim(self) -> int:
        """The width of one attention head."""
        return self.hidden_size // self.num_attention_heads

    def as_dict(self) -> dict[str, int | float]:
        """The sizes by name, as config.json has them."""
        return asdict(self)


class RMSNorm(nn.Module):
    """Scales each vector to unit root mean square, then by a learned weight."""

    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """Normalised in float32, given back in the type that came."""
        wide = x.float()
        wide = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + self.eps)
        return (wide * self.weight).to(x.dtype)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary positions in Hugging Face's rotate-half layout."""
    first, second = x.chunk(2, dim=-1)
    return x * cos + torch.cat((-second, first), dim=-1) * sin


class Attention(nn.Module):
    """Grouped-query attention with an additive mask; plain softmax is quickest on this CPU."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        size, head = shape.hidden_size, shape.head_dim
        self.q_proj = nn.Linear(size, shape.num_attention_heads * head, bias=False)
        self.k_proj = nn.Linear(size, shape.num_key_value_heads * head, bias=False)
        self.v_proj = nn.Linear(size, shape.num_key_value_heads * head, bias=False)
        self.o_proj = nn.Linear(shape.num_attention_heads * head, size, bias=False)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, mask: Tensor) -> Tensor:
        """Each token mixes in what the mask lets it see."""
        rows, length, _ = x.shape
        shape = self.shape
        groups = shape.num_key_value_heads
        per_group = shape.num_attention_heads // groups
        q = self.q_proj(x).view(rows, length, -1, shape.head_dim).transpose(1, 2)
        k = self.k_proj(x).view(rows, length, groups, shape.head_dim).transpose(1, 2)
        v = self.v_proj(x).view(rows, length, groups, shape.head_dim).transpose(1, 2)
        q = rotate(q, cos, sin) * shape.head_dim**-0.5
        k = rotate(k, cos, sin).repeat_interleave(per_group, dim=1)
        v = v.repeat_interleave(per_group, dim=1)
        weights = (q @ k.transpose(-1, -2) + mask).softmax(dim=-1)
        return self.o_proj((weights @ v).transpose(1, 2).reshape(rows, length, -1))


class MLP(nn.Module):
    """The SwiGLU feed-forward block."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(shape.hidden_size, shape.intermediate_size, bias=False)
        self.up_proj = nn.Linear(shape.hidden_size, shape.intermediate_size, bias=False)
        self.down_proj = nn.Linear(shape.intermediate_size, shape.hidden_size, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """One gated step per token."""
        return self.down_proj(nn.functional.silu(self.gate_proj(x)) * self.up_proj(x))


class Layer(nn.Module):
    """One pre-norm decoder layer."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.input_layernorm = RMSNorm(shape.hidden_size, shape.rms_norm_eps)
        self.self_attn = Attention(shape)
        self.post_attention_layernorm = RMSNorm(shape.hidden_size, shape.rms_norm_eps)
        self.mlp = MLP(shape)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, mask: Tensor) -> Tensor:
        """Attention, then the feed-forward block, each added to its input."""
        x = x + self.self_attn(self.input_layernorm(x), cos, sin, mask)
        return x + self.mlp(self.post_attention_layernorm(x))


class Llama(nn.Module):
    """The whole network, its output head tied to its embedding."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.embed_tokens = nn.Embedding(shape.vocab_size, shape.hidden_size)
        self.layers = nn.ModuleList(Layer(shape) for _ in range(shape.num_hidden_layers))
        self.norm = RMSNorm(shape.hidden_size, shape.rms_norm_eps)
        half = torch.arange(0, shape.head_dim, 2).float() / shape.head_dim
        self.register_buffer("inv_freq", shape.rope_theta**-half, persistent=False)
        self._initialise()

    def _initialise(self) -> None:
        nn.init.normal_(self.embed_tokens.weight, std=0.02)
        for name, weight in self.named_parameters():
            if weight.ndim == 2 and "embed" not in name:
                ends_block = name.endswith(("o_proj.weight", "down_proj.weight"))
                gain = 0.3 if ends_block else 0.6
                nn.init.normal_(weight, std=gain * weight.shape[1] ** -0.5)

    def forward(self, tokens: Tensor, positions: Tensor, segments: Tensor) -> Tensor:
        """Hidden states of packed rows; a token sees earlier tokens of its own segment."""
        angle = positions[..., None].float() * self.inv_freq
        angle = torch.cat((angle, angle), dim=-1)[:, None]
        x = self.embed_tokens(tokens)
        cos, sin = angle.cos().to(x.dtype), angle.sin().to(x.dtype)
        same = segments[:, :, None] == segments[:, None, :]
        mask = torch.zeros(same.shape, dtype=x.dtype).masked_fill(~same.tril(), -1e9)[:, None]
        for layer in self.layers:
            x = layer(x, cos, sin, mask)
        return self.norm(x)

    def loss(self, hidden: Tensor, targets: Tensor) -> Tensor:
        """Mean cross-entropy over the tokens that count (targets of -100 do not)."""
        counted = targets != -100
        logits = hidden[counted] @ self.embed_tokens.weight.T.to(hidden.dtype)
        return nn.functional.cross_entropy(logits.float(), targets[counted])
