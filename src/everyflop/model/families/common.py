"""Keys that several families share: sizes, dense layers, and all that says nothing about the model's numbers."""

from typing import Any

from everyflop.model.families.layout import Fields, Key, Required
from everyflop.model.families.reader import MISSING, REFUSED, ConfigReader
from everyflop.spec.model import ModelSpec


def sizes(*, norm_eps: float, max_positions: int, kv_heads: Any = Required) -> tuple[Key, ...]:
    """Return the keys that every family has, with a family's own defaults. kv_heads None: as many as query heads."""
    return (
        Key("vocab_size", "vocab_size", int),
        Key("hidden_size", "hidden", int),
        Key("num_hidden_layers", "n_layers", int),
        Key("num_attention_heads", "n_heads", int),
        Key("num_key_value_heads", "n_kv_heads", int, kv_heads, null=None),
        Key("num_experts_per_tok", "experts_per_token", int),
        Key("rms_norm_eps", "norm_eps", float, norm_eps),
        Key("initializer_range", "init_std", float, 0.02),
        Key("max_position_embeddings", "max_positions", int, max_positions),
        Key("tie_word_embeddings", "tied_embeddings", bool, False),
    )


def experts(name: str) -> Key:
    """Return the key for the number of experts: its usual name in a family, and the names others give it."""
    names = ("num_experts", "n_routed_experts", "num_local_experts")
    return Key(name, "n_experts", int, aliases=tuple(other for other in names if other != name))


HEAD_DIM = Key("head_dim", "head_dim", int, default=None, null=None)
"""Absent means hidden_size / num_attention_heads, which `fill_in` knows."""

DENSE_WIDTH = Key("intermediate_size", "dense_width", int, default=0, null=0)
EXPERT_WIDTH = Key("moe_intermediate_size", "expert_width", int)


MAX_LAYERS = 10_000


def fill_in(reader: ConfigReader, fields: Fields) -> None:
    """Replace None by the head sizes that it stands for, and refuse a number of layers that is surely a mistake."""
    if fields["n_layers"] is not REFUSED and fields["n_layers"] > MAX_LAYERS:
        found = f"is {fields['n_layers']}, and {MAX_LAYERS} is the most"
        fields["n_layers"] = reader.problem("num_hidden_layers", found)
    if fields["n_kv_heads"] is None:
        fields["n_kv_heads"] = fields["n_heads"]
    if fields.get("head_dim", 0) is None:
        fields["head_dim"] = even_heads(fields)


def even_heads(fields: Fields) -> Any:
    """Return hidden_size / num_attention_heads."""
    if REFUSED in (fields["hidden"], fields["n_heads"]):
        return REFUSED
    return fields["hidden"] // max(fields["n_heads"], 1)  # ModelSpec says what is wrong with no heads


def read_dense_prefix(reader: ConfigReader, fields: Fields, *, default: int) -> Fields:
    """Return dense_layers from first_k_dense_replace, clearing a dense_width that no layer uses."""
    value = reader.raw("first_k_dense_replace")
    count = default if value is MISSING else reader.typed(value, int, "first_k_dense_replace")
    if count is not REFUSED and count < 0:
        count = reader.problem("first_k_dense_replace", f"is {count}, and a number of layers is needed")
    if REFUSED in (count, fields["n_layers"]):
        return {"dense_layers": REFUSED}
    return used_width(fields, tuple(range(min(count, fields["n_layers"]))))


def used_width(fields: Fields, dense_layers: tuple[int, ...]) -> Fields:
    """Return dense_layers, and their width, which configs give even where no layer has it."""
    return {"dense_layers": dense_layers, "dense_width": fields["dense_width"] if dense_layers else 0}


def write_dense_prefix(spec: ModelSpec) -> dict[str, Any]:
    """Return first_k_dense_replace. Where dense layers are no prefix, reading it back will tell."""
    return {"first_k_dense_replace": len(spec.dense_layers), "intermediate_size": spec.dense_width or spec.expert_width}


FIXED: dict[str, tuple[Any, ...]] = {
    "hidden_act": ("silu", "swish"),
    "quantization_config": (None,),
    "is_encoder_decoder": (False,),
    "add_cross_attention": (False,),
    "pruned_heads": ({}, None),
}
"""Keys that any config.json may have, and the values under which our model computes the same."""

HINTS = {"quantization_config": "convert the weights to bfloat16 first"}

_ABOUT_THE_FILE = """
    architectures model_type dtype torch_dtype transformers_version auto_map name_or_path tokenizer_class prefix
    task_specific_params id2label label2id num_labels finetuning_task problem_type
"""
_TOKEN_IDS = """
    bos_token_id eos_token_id pad_token_id sep_token_id cls_token_id unk_token_id decoder_start_token_id
"""
NO_TOKENS = {"bos_token_id": None, "eos_token_id": None, "pad_token_id": None}
"""Written where nothing better is known: the ids that other programs assume can lie outside the vocabulary."""

_HOW_A_PROGRAM_RUNS_IT = """
    use_cache pretraining_tp return_dict output_hidden_states output_attentions torchscript use_bfloat16 is_decoder
    tf_legacy_loss chunk_size_feed_forward tie_encoder_decoder cross_attention_hidden_size ep_size
"""
_TRAINING_ONLY = "attention_dropout output_router_logits router_aux_loss_coef router_jitter_noise"
"""They change no logits, and our runs set their own."""
_SAMPLING = """
    temperature top_k top_p typical_p do_sample early_stopping num_beams num_beam_groups diversity_penalty max_length
    min_length repetition_penalty length_penalty no_repeat_ngram_size encoder_no_repeat_ngram_size bad_words_ids
    num_return_sequences output_scores return_dict_in_generate forced_bos_token_id forced_eos_token_id suppress_tokens
    begin_suppress_tokens remove_invalid_values exponential_decay_length_penalty
"""
"""Older versions of transformers wrote these into config.json."""

HARMLESS = frozenset(f"{_ABOUT_THE_FILE} {_TOKEN_IDS} {_HOW_A_PROGRAM_RUNS_IT} {_TRAINING_ONLY} {_SAMPLING}".split())
"""Keys that change nothing in the logits of any family."""
