"""The configurations of a model's parts, checked key by key before anything is built from them.

A configuration comes with weights of anybody's. Libraries take more from it than sizes: names of code to download, ways
to quantise, kernels. So only the keys that describe the networks of a Stable Diffusion 1.x are taken, each within
bounds; bookkeeping that published models carry is left out; any other key is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import diffusers
from diffusers import AutoencoderKL, SchedulerMixin, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel

from instructx2x.errors import ModelError
from instructx2x.models.files import read_json

Check = Callable[[Any], bool]

MAX_SIZE = 2048  # pixels along the model's square
MAX_TIMESTEPS = 10_000


def whole(low: int, high: int) -> Check:
    return lambda value: type(value) is int and low <= value <= high


def number(low: float, high: float) -> Check:
    return lambda value: type(value) in (int, float) and low <= value <= high


def only(*values: Any) -> Check:
    return lambda value: any(type(value) is type(one) and value == one for one in values)


def maybe(check: Check) -> Check:
    return lambda value: value is None or check(value)


def each(check: Check) -> Check:
    """One value for all levels, or a list of one for each."""
    return lambda value: check(value) or levels(check)(value)


def levels(check: Check, most: int = 8) -> Check:
    return lambda value: isinstance(value, list) and 1 <= len(value) <= most and all(map(check, value))


def _text(value: Any) -> bool:
    return isinstance(value, str) and len(value) <= 100


_flag, _width, _few, _small = only(True, False), whole(1, 16_384), whole(1, 8), number(0, 1)
# What asks for inputs that an instruction edit has not: only in the state that asks for none.
_none, _false = only(None), only(False)

_UNET: dict[str, Check] = {
    "sample_size": whole(1, 1024),
    "in_channels": whole(1, 64),
    "out_channels": whole(1, 64),
    "center_input_sample": _flag,
    "flip_sin_to_cos": _flag,
    "freq_shift": number(-1, 1),
    "down_block_types": levels(_text),
    "mid_block_type": maybe(_text),
    "up_block_types": levels(_text),
    "only_cross_attention": each(_flag),
    "block_out_channels": levels(_width),
    "layers_per_block": each(_few),
    "downsample_padding": whole(0, 8),
    "mid_block_scale_factor": number(-1000, 1000),
    "dropout": _small,
    "act_fn": _text,
    "norm_num_groups": maybe(_width),
    "norm_eps": _small,
    "cross_attention_dim": _width,
    "transformer_layers_per_block": each(each(_few)),
    "reverse_transformer_layers_per_block": maybe(each(each(_few))),
    "encoder_hid_dim": _none,
    "encoder_hid_dim_type": _none,
    "attention_head_dim": each(_width),
    "num_attention_heads": maybe(each(_width)),
    "dual_cross_attention": _flag,
    "use_linear_projection": _flag,
    "class_embed_type": _none,
    "addition_embed_type": _none,
    "addition_time_embed_dim": maybe(_width),
    "num_class_embeds": _none,
    "upcast_attention": maybe(_flag),
    "resnet_time_scale_shift": _text,
    "resnet_skip_time_act": _flag,
    "resnet_out_scale_factor": number(0.001, 1000),
    "time_embedding_type": _text,
    "time_embedding_dim": maybe(_width),
    "time_embedding_act_fn": maybe(_text),
    "timestep_post_act": maybe(_text),
    "time_cond_proj_dim": _none,
    "conv_in_kernel": whole(1, 9),
    "conv_out_kernel": whole(1, 9),
    "projection_class_embeddings_input_dim": _none,
    "attention_type": only("default"),
    "class_embeddings_concat": _false,
    "mid_block_only_cross_attention": maybe(_flag),
    "cross_attention_norm": maybe(_text),
    "addition_embed_type_num_heads": _width,
}
_VAE: dict[str, Check] = {
    "in_channels": whole(1, 64),
    "out_channels": whole(1, 64),
    "down_block_types": levels(_text),
    "up_block_types": levels(_text),
    "block_out_channels": levels(_width),
    "layers_per_block": _few,
    "act_fn": _text,
    "latent_channels": whole(1, 64),
    "norm_num_groups": _width,
    "sample_size": maybe(each(whole(1, 65_536))),
    "scaling_factor": number(1e-4, 1e4),
    # Latents moved or scaled by channel, which InstructPix2Pix does not know.
    "shift_factor": only(None, 0, 0.0),
    "latents_mean": _none,
    "latents_std": _none,
    "force_upcast": _flag,
    "use_quant_conv": _flag,
    "use_post_quant_conv": _flag,
    "mid_block_add_attention": _flag,
}
_token = maybe(each(whole(0, 10_000_000)))
_CLIP: dict[str, Check] = {
    "vocab_size": whole(4, 1_000_000),
    "hidden_size": _width,
    "intermediate_size": whole(1, 65_536),
    "projection_dim": maybe(_width),
    "num_hidden_layers": whole(1, 64),
    "num_attention_heads": whole(1, 256),
    "max_position_embeddings": whole(3, 4096),
    "hidden_act": _text,
    "layer_norm_eps": _small,
    "attention_dropout": _small,
    "initializer_range": number(0, 10),
    "initializer_factor": number(0, 10),
    "pad_token_id": _token,
    "bos_token_id": _token,
    "eos_token_id": _token,
}
_SCHEDULER: dict[str, Check] = {
    "num_train_timesteps": whole(2, MAX_TIMESTEPS),
    "beta_start": number(1e-8, 0.999),
    "beta_end": number(1e-8, 0.999),
    "beta_schedule": only("linear", "scaled_linear", "squaredcos_cap_v2"),
    "trained_betas": maybe(levels(number(0, 1), MAX_TIMESTEPS)),
    "prediction_type": only("epsilon", "v_prediction", "sample"),
    "timestep_spacing": only("leading", "linspace", "trailing"),
    "steps_offset": whole(0, MAX_TIMESTEPS),
    "clip_sample_range": number(0, 1e6),
    "dynamic_thresholding_ratio": _small,
    "sample_max_value": number(0, 1e6),
    "solver_order": whole(1, 3),
    "lambda_min_clipped": number(-1e6, 1e6),
    "eta": _small,
    "sigma_min": maybe(number(0, 1e6)),
    "sigma_max": maybe(number(0, 1e6)),
    "flow_shift": maybe(number(0, 1e6)),
    "disable_corrector": lambda value: value == [] or levels(whole(0, MAX_TIMESTEPS), 100)(value),
    "solver_p": only(None),
    **dict.fromkeys(
        "clip_denoised clip_sample euler_at_final lower_order_final predict_x0 rescale_betas_zero_snr set_alpha_to_one "
        "skip_prk_steps thresholding use_beta_sigmas use_exponential_sigmas use_flow_sigmas use_karras_sigmas "
        "use_lu_lambdas".split(),
        maybe(_flag),
    ),
    **dict.fromkeys(
        ("algorithm_type", "solver_type", "variance_type", "interpolation_type", "final_sigmas_type", "timestep_type"),
        maybe(_text),
    ),
}

# What says where a file comes from, and what other uses of the same networks need. It is not passed on.
_DIFFUSERS_NOTES = frozenset(
    {"_class_name", "_diffusers_version", "_name_or_path", "_commit_hash", "_use_default_values"}
    # of a moving average
    | {"decay", "inv_gamma", "min_decay", "optimization_step", "power", "update_after_step", "use_ema_warmup"}
)
_TRANSFORMERS_NOTES = frozenset(
    "_name_or_path _commit_hash architectures model_type torch_dtype dtype transformers_version dropout "
    "add_cross_attention bad_words_ids begin_suppress_tokens chunk_size_feed_forward cross_attention_hidden_size "
    "decoder_start_token_id diversity_penalty do_sample early_stopping encoder_no_repeat_ngram_size "
    "exponential_decay_length_penalty finetuning_task forced_bos_token_id forced_eos_token_id "
    "gradient_checkpointing id2label is_decoder is_encoder_decoder label2id length_penalty max_length min_length "
    "no_repeat_ngram_size num_beam_groups num_beams num_return_sequences output_attentions output_hidden_states "
    "output_scores prefix problem_type pruned_heads remove_invalid_values repetition_penalty return_dict "
    "return_dict_in_generate sep_token_id suppress_tokens task_specific_params temperature tf_legacy_loss "
    "tie_encoder_decoder tie_word_embeddings tokenizer_class top_k top_p torchscript typical_p use_bfloat16 "
    "use_cache use_return_dict".split()
)

_KINDS: dict[type, tuple[dict[str, Check], frozenset[str]]] = {
    UNet2DConditionModel: (_UNET, _DIFFUSERS_NOTES),
    AutoencoderKL: (_VAE, _DIFFUSERS_NOTES),
    CLIPTextModel: (_CLIP, _TRANSFORMERS_NOTES),
}


def network_config(kind: type, folder: Path) -> dict[str, Any]:
    """What `kind` (a U-Net, a VAE or a CLIP text encoder) is built from, out of `folder`/config.json.

    Raises:
        ModelError: the file is missing or damaged, has a key that is not known, or a value out of bounds.
    """
    file = folder / "config.json"
    told = read_json(file)
    named = told.get("_class_name", kind.__name__) if kind is not CLIPTextModel else kind.__name__
    if named != kind.__name__:
        raise ModelError(f"{file} is of a {named!r:.60}, not of a {kind.__name__}: this is another kind of model")
    return _taken(file, told, *_KINDS[kind])


def build(kind: type, config: Mapping[str, Any]) -> Any:
    """A network from `network_config`; on the meta device it has names and shapes, and no numbers."""
    if kind is CLIPTextModel:
        return CLIPTextModel(CLIPTextConfig(**config))
    return kind.from_config(dict(config))


def read_scheduler(folder: Path) -> SchedulerMixin:
    """The scheduler of `folder`/scheduler_config.json, on a noise schedule that can be sampled.

    Raises:
        ModelError: as `network_config`, or it is no scheduler of diffusers' with a schedule of betas.
    """
    file = folder / "scheduler_config.json"
    told = read_json(file)
    name = told.get("_class_name")
    kind = getattr(diffusers, name, None) if isinstance(name, str) and name.endswith("Scheduler") else None
    if not (isinstance(kind, type) and issubclass(kind, SchedulerMixin)):
        raise ModelError(f"{file} names a scheduler that diffusers does not have: {name!r:.60}")
    config = _taken(file, told, _SCHEDULER, _DIFFUSERS_NOTES)
    betas = config.get("trained_betas")
    if betas is not None and len(betas) != config.get("num_train_timesteps", 1000):
        raise ModelError(f"{file} has {len(betas)} trained_betas for another number of timesteps")
    try:
        scheduler = kind.from_config(config)
        alphas = scheduler.alphas_cumprod
        usable = bool((alphas[:-1] > 0).all() and (alphas >= 0).all() and (alphas <= 1).all())
    except Exception as error:  # diffusers raises nearly anything for values that do not go together
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
        raise ModelError(f"{file} describes no noise schedule of betas: {reason}") from error
    if not usable:
        raise ModelError(f"{file} describes a noise schedule that leaves nothing of the image: check its betas")
    return scheduler


def _taken(file: Path, told: Mapping[str, Any], checks: Mapping[str, Check], notes: frozenset[str]) -> dict[str, Any]:
    """The keys that describe, each within its bounds."""
    unknown = sorted(set(told) - checks.keys() - notes)
    if unknown:
        raise ModelError(
            f"{file} has a key that is not known here and so is not safe to follow, {unknown[0]!r:.80}: remove it if "
            "the model works without it"
        )
    config = {key: value for key, value in told.items() if key in checks}
    for key, value in config.items():
        if not checks[key](value):
            raise ModelError(f"{file} has a value that cannot be used, {key} = {str(value)!r:.80}: get a whole copy")
    return config
