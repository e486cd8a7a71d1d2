"""Second stage: a small CLIP text encoder that has learned the instruction language, then stays frozen.

Two losses: heads read each edit's operation, side, zone and levels off the text's embedding, and a contrastive loss
with several positives pulls the embedding towards the change between the two images of a simulated pair.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers
from torch import nn
from torch.nn import functional as F
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from instructx2x.errors import InstructionError
from instructx2x.instructions import FINDINGS, LEVELS, SIDES, ZONES, Edit, Operation, consistent, render
from instructx2x.models import token_ids
from instructx2x.training.loop import Batch, fingerprint, fit
from instructx2x.training.samples import Sampler, random_edit

START, END = "<|startoftext|>", "<|endoftext|>"
# CLIP cuts text into runs of letters, single digits and runs of anything else before it merges bytes.
WORD = r"\p{L}+|\p{N}|[^\s\p{L}\p{N}]+"
FIELDS = {
    "operation": [None, *Operation],
    "side": [None, *SIDES],
    "zone": [None, *ZONES],
    "level": [None, *LEVELS],
    "from_level": [None, *LEVELS],
}
NAMES = list(FINDINGS)


def build_tokenizer(folder: Path, max_length: int, seed: int = 0) -> CLIPTokenizer:
    """Train CLIP's byte-level BPE on 4,000 instructions, so that every word of the language becomes one token.

    Other words still come through, in pieces. Written to `folder` in the layout that CLIPTokenizer reads.
    """
    rng = np.random.default_rng(seed)
    corpus = [render((random_edit(rng),)).lower() for _ in range(4000)]
    corpus += [f"add the findings of {a}, {b} and {c}." for a in NAMES for b in NAMES[:4] for c in NAMES[-4:]]
    bpe = Tokenizer(models.BPE(end_of_word_suffix="</w>", unk_token=END))
    bpe.normalizer = normalizers.Lowercase()
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(WORD), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    bpe.train_from_iterator(
        corpus,
        trainers.BpeTrainer(
            vocab_size=2000,
            min_frequency=2,
            end_of_word_suffix="</w>",
            initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
            show_progress=False,
        ),
    )
    trained = json.loads(bpe.to_str())["model"]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = [tuple(pair) if isinstance(pair, list) else tuple(pair.split(" ")) for pair in trained["merges"]]
    pieces = [
        *alphabet,
        *(letter + "</w>" for letter in alphabet),
        *("".join(pair) for pair in merges),
        START,
        END,
    ]
    vocabulary = {piece: number for number, piece in enumerate(dict.fromkeys(pieces))}
    tokenizer = CLIPTokenizer(
        vocab=vocabulary,
        merges=merges,
        bos_token=START,
        eos_token=END,
        unk_token=END,
        pad_token=END,
        model_max_length=max_length,
    )
    tokenizer.save_pretrained(folder)
    return tokenizer


def build_text_encoder(tokenizer: CLIPTokenizer, width: int = 128, layers: int = 4) -> CLIPTextModel:
    """A CLIP text transformer for that tokenizer: `width` channels, heads of 32."""
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=width,
            intermediate_size=4 * width,
            num_hidden_layers=layers,
            num_attention_heads=width // 32,
            max_position_embeddings=tokenizer.model_max_length,
            projection_dim=width,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


class Reader(nn.Module):
    """What is trained: the encoder, heads that read the edits, and a small encoder of changes.

    The heads read the state at the end of the text and at the last padding token: the U-Net attends to both.
    """

    def __init__(self, encoder: CLIPTextModel, latent_channels: int = 4):
        super().__init__()
        width = encoder.config.hidden_size
        self.encoder = encoder
        self.heads = nn.ModuleDict(
            {field: nn.Linear(width, len(NAMES) * len(values)) for field, values in FIELDS.items()}
        )
        self.change = nn.Sequential(
            nn.Conv2d(2 * latent_channels, 32, 3, stride=2, padding=1), nn.SiLU(),
            nn.Conv2d(32, 64, 3, stride=2, padding=1), nn.SiLU(),
            nn.Conv2d(64, 96, 3, stride=2, padding=1), nn.SiLU(),
            nn.Flatten(), nn.LazyLinear(width),
        )  # fmt: skip
        self.project = nn.Linear(width, width)
        self.log_scale = nn.Parameter(torch.tensor(2.3))

    def read(self, ids: torch.Tensor) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Pooled state (N, width) and logits per field, (2 N, findings, values): end of text, then last padding."""
        output = self.encoder(ids)
        states = torch.cat((output.pooler_output, output.last_hidden_state[:, -1]))
        return output.pooler_output, {
            field: head(states).view(len(states), len(NAMES), -1) for field, head in self.heads.items()
        }


def labels(instructions: list[tuple[Edit, ...]]) -> dict[str, torch.Tensor]:
    """Per field (N, findings) int64: the value's index for findings that are named once, 0 for "not said", else -100.

    `operation` is 0 for every finding that is not named; the other fields count only where the finding is named.
    """
    result = {field: torch.full((len(instructions), len(NAMES)), -100) for field in FIELDS}
    result["operation"][:] = 0
    for row, edits in enumerate(instructions):
        for edit in edits:
            column = NAMES.index(edit.finding)
            for field, values in FIELDS.items():
                result[field][row, column] = values.index(getattr(edit, field))
    return result


def random_instruction(rng: np.random.Generator) -> tuple[Edit, ...]:
    """One to three edits of different findings."""
    findings = rng.choice(NAMES, int(rng.choice([1, 2, 3], p=[0.6, 0.3, 0.1])), replace=False)
    try:
        return consistent(random_edit(rng, str(finding)) for finding in findings)
    except InstructionError:
        return random_instruction(rng)


def train_text_encoder(
    sampler: Sampler,
    *,
    work: Path,
    width: int = 128,
    layers: int = 4,
    max_length: int = 48,
    steps: int = 1500,
    batch: int = 96,
    peak_lr: float = 1e-3,
    seed: int = 0,
    device: str = "cpu",
) -> tuple[CLIPTokenizer, CLIPTextModel]:
    """Train tokenizer and encoder; both are written to `work/tokenizer` and `work/text_encoder`."""
    torch.manual_seed(seed)
    tokenizer = build_tokenizer(work / "tokenizer", max_length, seed)
    reader = Reader(build_text_encoder(tokenizer, width, layers))
    size = sampler.bank.clean.shape[-1]
    reader.change(torch.zeros(1, 8, size, size))

    def draw(rng: np.random.Generator) -> Batch:
        samples = [sampler.draw(rng, str(rng.choice(["add", "remove", "level"], p=[0.5, 0.3, 0.2])))
                   for _ in range(batch // 2)]  # fmt: skip
        instructions = [sample.edits for sample in samples] + [random_instruction(rng) for _ in range(batch // 2)]
        texts = [render(edits) for edits in instructions]
        ids = token_ids(tokenizer, texts, tokenizer.model_max_length)
        truth = labels(instructions)
        images = torch.stack([torch.cat((s.source, s.target - s.source)) for s in samples])
        keys = [tuple((e.operation, e.finding, e.side) for e in s.edits) for s in samples]
        same = torch.tensor([[a == b for b in keys] for a in keys], dtype=torch.float32)
        return ids, torch.stack([truth[field] for field in FIELDS]), images, same

    def loss(
        ids: torch.Tensor, truth: torch.Tensor, images: torch.Tensor, same: torch.Tensor
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        pooled, logits = reader.read(ids)
        heads = sum(
            F.cross_entropy(logits[field].flatten(0, 1).float(), torch.cat((values,) * 2).flatten())
            for field, values in zip(FIELDS, truth, strict=True)
        )
        changes = F.normalize(reader.change(images).float(), dim=-1)
        words = F.normalize(reader.project(pooled[: len(images)]).float(), dim=-1)
        similarity = reader.log_scale.exp().clamp(max=50) * words @ changes.T
        target = same / same.sum(1, keepdim=True)
        contrast = (F.cross_entropy(similarity, target) + F.cross_entropy(similarity.T, target)) / 2
        return heads + 0.3 * contrast, {"heads": heads, "contrast": contrast}

    run = {"width": width, "layers": layers, "max_length": max_length, "latents": fingerprint(sampler.bank.clean)}
    fit("text_encoder", reader, draw, loss, work=work, steps=steps, peak_lr=peak_lr, run=run, seed=seed, device=device)
    reader.encoder.save_pretrained(work / "text_encoder")
    return tokenizer, reader.encoder
