"""Models of text: transformers with and without experts, encoders and decoders, state spaces."""

from __future__ import annotations

from typing import Any

import torch
from model_registry import Made, Maker, language, registry
from torch import nn

MODELS: dict[str, Maker] = {}
entry = registry(MODELS)


@entry
def gpt2_dropout() -> Made:
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(
        vocab_size=512, n_positions=128, n_embd=128, n_layer=4, n_head=4, use_cache=False,
        bos_token_id=0, eos_token_id=0,
    )  # fmt: skip
    return language(GPT2LMHeadModel(config), 4, 128, 512)


@entry
def bert_dropout() -> Made:
    from transformers import BertConfig, BertForMaskedLM

    config = BertConfig(
        vocab_size=512, hidden_size=128, num_hidden_layers=4, num_attention_heads=4,
        intermediate_size=512, max_position_embeddings=128,
    )  # fmt: skip
    return language(BertForMaskedLM(config), 4, 128, 512)


def llama(layers: int = 4, **more: Any) -> nn.Module:
    """A small Llama."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=512, hidden_size=128, intermediate_size=344, num_hidden_layers=layers,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=256,
        use_cache=False, **more,
    )  # fmt: skip
    return LlamaForCausalLM(config)


@entry
def llama_small() -> Made:
    return language(llama(), 4, 128, 512)


@entry
def llama_tied() -> Made:
    return language(llama(tie_word_embeddings=True), 4, 128, 512)


@entry
def llama_lora() -> Made:
    from peft import LoraConfig, get_peft_model

    adapted = get_peft_model(
        llama(), LoraConfig(r=8, target_modules=["q_proj", "v_proj"], lora_dropout=0.0)
    )
    return language(adapted, 4, 128, 512)


@entry
def mixtral() -> Made:
    from transformers import MixtralConfig, MixtralForCausalLM

    config = MixtralConfig(
        vocab_size=512, hidden_size=96, intermediate_size=192, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, num_local_experts=4, num_experts_per_tok=2,
        max_position_embeddings=128, use_cache=False,
    )  # fmt: skip
    config._experts_implementation = "batched_mm"  # the default loops over data-dependent sizes
    return language(MixtralForCausalLM(config), 2, 64, 512)


@entry
def t5() -> Made:
    from transformers import T5Config, T5ForConditionalGeneration

    config = T5Config(
        vocab_size=512, d_model=96, d_kv=24, d_ff=256, num_layers=2, num_heads=4,
        decoder_start_token_id=0, use_cache=False, dropout_rate=0.1,
    )  # fmt: skip
    return language(T5ForConditionalGeneration(config), 4, 64, 512)


@entry
def mamba() -> Made:
    from transformers import MambaConfig, MambaForCausalLM

    config = MambaConfig(
        vocab_size=256, hidden_size=64, state_size=8, num_hidden_layers=2, use_cache=False
    )
    return language(MambaForCausalLM(config), 2, 24, 256)


@entry
def deberta_v3() -> Made:
    from transformers import DebertaV2Config, DebertaV2ForMaskedLM

    config = DebertaV2Config(
        vocab_size=512, hidden_size=96, num_hidden_layers=3, num_attention_heads=4,
        intermediate_size=256, max_position_embeddings=64, relative_attention=True,
        position_buckets=16, norm_rel_ebd="layer_norm", share_att_key=True,
        pos_att_type=["p2c", "c2p"], position_biased_input=False, type_vocab_size=0,
    )  # fmt: skip
    mask = torch.ones(4, 64, dtype=torch.long)
    mask[1, 48:] = 0
    return language(DebertaV2ForMaskedLM(config), 4, 64, 512, attention_mask=mask)


@entry
def bart() -> Made:
    from transformers import BartConfig, BartForConditionalGeneration

    config = BartConfig(
        vocab_size=512, d_model=96, encoder_layers=2, decoder_layers=2,
        encoder_attention_heads=4, decoder_attention_heads=4, encoder_ffn_dim=256,
        decoder_ffn_dim=256, max_position_embeddings=64, use_cache=False, dropout=0.1,
        attention_dropout=0.1, pad_token_id=0, bos_token_id=1, eos_token_id=2,
        decoder_start_token_id=2, forced_eos_token_id=None,
    )  # fmt: skip
    return language(BartForConditionalGeneration(config), 4, 64, 512)


@entry
def opt() -> Made:
    from transformers import OPTConfig, OPTForCausalLM

    config = OPTConfig(
        vocab_size=512, hidden_size=96, num_hidden_layers=4, num_attention_heads=4, ffn_dim=384,
        max_position_embeddings=64, word_embed_proj_dim=64, do_layer_norm_before=False,
        dropout=0.1, use_cache=False,
    )  # fmt: skip
    return language(OPTForCausalLM(config), 4, 64, 512)


@entry
def qwen3_moe() -> Made:
    from transformers import Qwen3MoeConfig, Qwen3MoeForCausalLM

    config = Qwen3MoeConfig(
        vocab_size=512, hidden_size=96, intermediate_size=192, moe_intermediate_size=64,
        num_hidden_layers=3, mlp_only_layers=[1], num_attention_heads=4, num_key_value_heads=2,
        head_dim=24, num_experts=8, num_experts_per_tok=2, norm_topk_prob=True,
        output_router_logits=True, max_position_embeddings=128, use_cache=False,
    )  # fmt: skip
    config._experts_implementation = "batched_mm"
    return language(Qwen3MoeForCausalLM(config), 2, 64, 512)
