"""Reads an exported checkpoint and generates from it; shares no code with training."""

import json
from functools import partial
from pathlib import Path
from typing import Any

import torch
from jinja2.sandbox import ImmutableSandboxedEnvironment
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch import Tensor


class Reference:
    """A LlamaForCausalLM in float32, after Hugging Face's definition."""

    def __init__(self, folder: Path) -> None:
        self.config = json.loads((folder / "config.json").read_text())
        settings = json.loads((folder / "tokenizer_config.json").read_text())
        self.bos = settings["bos_token"]
        environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
        environment.filters["tojson"] = partial(json.dumps, ensure_ascii=False)
        self.template = environment.from_string(settings["chat_template"])
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        weights = load_file(folder / "model.safetensors")
        self.weights = {name: weight.float() for name, weight in weights.items()}
        half = torch.arange(0, self.config["head_dim"], 2) / self.config["head_dim"]
        self.frequencies = 1.0 / self.config["rope_theta"] ** half

    def prompt(self, messages: list[dict[str, Any]], **variables: object) -> list[int]:
        """The chat template rendered, with more variables if it has any, and encoded."""
        text = self.template.render(
            messages=messages, bos_token=self.bos, add_generation_prompt=True, **variables
        )
        return self.tokenizer.encode(text, add_special_tokens=False).ids

    def _norm(self, x: Tensor, name: str) -> Tensor:
        variance = x.pow(2).mean(-1, keepdim=True)
        return x * torch.rsqrt(variance + self.config["rms_norm_eps"]) * self.weights[name]

    def _heads(self, x: Tensor, name: str) -> Tensor:
        flat = x @ self.weights[name].T
        return flat.unflatten(-1, (-1, self.config["head_dim"])).transpose(1, 2)

    def _turned(self, x: Tensor, positions: Tensor) -> Tensor:
        angle = positions[:, None, :, None] * self.frequencies
        angle = torch.cat((angle, angle), dim=-1)
        half = x.shape[-1] // 2
        swapped = torch.cat((-x[..., half:], x[..., :half]), dim=-1)
        return x * angle.cos() + swapped * angle.sin()

    def logits(
        self, tokens: Tensor, positions: Tensor, seen: Tensor, cache: list[tuple[Tensor, Tensor]]
    ) -> Tensor:
        """Logits after the last token of each row; `seen` says which keys each query may read."""
        x = self.weights["model.embed_tokens.weight"][tokens]
        groups = self.config["num_attention_heads"] // self.config["num_key_value_heads"]
        for n in range(self.config["num_hidden_layers"]):
            at = f"model.layers.{n}"
            y = self._norm(x, f"{at}.input_layernorm.weight")
            q = self._turned(self._heads(y, f"{at}.self_attn.q_proj.weight"), positions)
            k = self._turned(self._heads(y, f"{at}.self_attn.k_proj.weight"), positions)
            v = self._heads(y, f"{at}.self_attn.v_proj.weight")
            if len(cache) > n:
                k, v = torch.cat((cache[n][0], k), 2), torch.cat((cache[n][1], v), 2)
                cache[n] = (k, v)
            else:
                cache.append((k, v))
            folded = q.unflatten(1, (-1, groups)).flatten(2, 3)
            scores = folded @ k.transpose(-1, -2) / self.config["head_dim"] ** 0.5
            scores = scores.masked_fill(~seen.repeat(1, groups, 1)[:, None], float("-inf"))
            mixed = scores.softmax(-1).nan_to_num() @ v
            mixed = mixed.unflatten(2, (groups, -1)).flatten(1, 2).transpose(1, 2).flatten(2)
            x = x + mixed @ self.weights[f"{at}.self_attn.o_proj.weight"].T
            y = self._norm(x, f"{at}.post_attention_layernorm.weight")
            gate = torch.nn.functional.silu(y @ self.weights[f"{at}.mlp.gate_proj.weight"].T)
            up = y @ self.weights[f"{at}.mlp.up_proj.weight"].T
            x = x + (gate * up) @ self.weights[f"{at}.mlp.down_proj.weight"].T
        head = "lm_head.weight"
        if self.config["tie_word_embeddings"]:
            head = "model.embed_tokens.weight"
        return self._norm(x[:, -1], "model.norm.weight") @ self.weights[head].T

    @torch.no_grad()
    def generate(
        self, prompts: list[list[int]], temperature: float, top_p: float, limit: int, seed: int = 0
    ) -> list[list[int]]:
        """Continues all prompts together, padded on the left, until each has ended."""
        rows, longest = len(prompts), max(map(len, prompts))
        pads = torch.tensor([longest - len(prompt) for prompt in prompts])
        tokens = torch.tensor([[0] * (longest - len(p)) + p for p in prompts])
        generator = torch.Generator().manual_seed(seed)
        place = torch.arange(longest)
        valid = place >= pads[:, None]
        seen = valid[:, None] & (place[None, :, None] >= place[None, None])
        positions = (place - pads[:, None]).clamp(min=0)
        cache: list[tuple[Tensor, Tensor]] = []
        replies: list[list[int]] = [[] for _ in prompts]
        open_rows = set(range(rows))
        for step in range(limit):
            logits = self.logits(tokens, positions, seen, cache)
            chosen = choose(logits, temperature, top_p, generator)
            for row in list(open_rows):
                replies[row].append(int(chosen[row]))
                if replies[row][-1] == self.config["eos_token_id"]:
                    open_rows.remove(row)
            if not open_rows:
                break
            valid = torch.cat((valid, torch.ones(rows, 1, dtype=torch.bool)), 1)
            tokens, seen = chosen[:, None], valid[:, None]
            positions = (longest + step - pads)[:, None]
        return replies


def choose(logits: Tensor, temperature: float, top_p: float, generator: torch.Generator) -> Tensor:
    """The best token at temperature 0, else one drawn from the smallest set with mass `top_p`."""
    if temperature == 0:
        return logits.argmax(-1)
    chances, order = (logits / temperature).softmax(-1).sort(descending=True)
    chances[chances.cumsum(-1) - chances > top_p] = 0
    return order.gather(1, torch.multinomial(chances, 1, generator=generator))[:, 0]
