"""Models of pictures and of sound that transformers has."""

from __future__ import annotations

import torch
from model_registry import Made, Maker, registry, tokens

MODELS: dict[str, Maker] = {}
entry = registry(MODELS)


@entry
def vit() -> Made:
    from transformers import ViTConfig, ViTForImageClassification

    config = ViTConfig(
        hidden_size=96, num_hidden_layers=4, num_attention_heads=4, intermediate_size=384,
        image_size=64, patch_size=8, num_labels=10,
    )  # fmt: skip
    pixels = torch.randn(8, 3, 64, 64)
    return ViTForImageClassification(config), {
        "pixel_values": pixels,
        "labels": torch.randint(0, 10, (8,)),
    }


@entry
def convnext() -> Made:
    from transformers import ConvNextConfig, ConvNextForImageClassification

    config = ConvNextConfig(
        hidden_sizes=[16, 32, 64, 128], depths=[1, 1, 2, 1], image_size=64, num_labels=10
    )
    return ConvNextForImageClassification(config), {
        "pixel_values": torch.randn(4, 3, 64, 64),
        "labels": torch.randint(0, 10, (4,)),
    }


@entry
def whisper() -> Made:
    from transformers import WhisperConfig, WhisperForConditionalGeneration

    config = WhisperConfig(
        vocab_size=512, d_model=64, encoder_layers=2, decoder_layers=2,
        encoder_attention_heads=4, decoder_attention_heads=4, encoder_ffn_dim=128,
        decoder_ffn_dim=128, num_mel_bins=20, max_source_positions=50, max_target_positions=64,
        use_cache=False, pad_token_id=0, bos_token_id=1, eos_token_id=2,
        decoder_start_token_id=1, dropout=0.1, apply_spec_augment=False,
    )  # fmt: skip
    return WhisperForConditionalGeneration(config), {
        "input_features": torch.randn(2, 20, 100),
        "labels": tokens(2, 32, 512),
    }


@entry
def swin() -> Made:
    from transformers import SwinConfig, SwinForImageClassification

    config = SwinConfig(
        image_size=64, patch_size=4, embed_dim=24, depths=[2, 2, 2], num_heads=[2, 4, 8],
        window_size=4, drop_path_rate=0.2, hidden_dropout_prob=0.1, num_labels=10,
    )  # fmt: skip
    return SwinForImageClassification(config), {
        "pixel_values": torch.randn(4, 3, 64, 64),
        "labels": torch.randint(0, 10, (4,)),
    }


@entry
def segformer() -> Made:
    from transformers import SegformerConfig, SegformerForSemanticSegmentation

    config = SegformerConfig(
        depths=[1, 1, 1, 1], hidden_sizes=[16, 32, 40, 64], num_attention_heads=[1, 2, 5, 8],
        sr_ratios=[4, 2, 2, 1], decoder_hidden_size=64, drop_path_rate=0.2, num_labels=10,
    )  # fmt: skip
    labels = torch.randint(0, 10, (2, 64, 64))
    labels[:, :4] = 255  # nothing is known of the border
    return SegformerForSemanticSegmentation(config), {
        "pixel_values": torch.randn(2, 3, 64, 64),
        "labels": labels,
    }


@entry
def regnet() -> Made:
    from transformers import RegNetConfig, RegNetForImageClassification

    config = RegNetConfig(
        embedding_size=16, hidden_sizes=[16, 32, 48, 64], depths=[1, 1, 2, 1], groups_width=8,
        layer_type="y", num_labels=10,
    )  # fmt: skip
    return RegNetForImageClassification(config), {
        "pixel_values": torch.randn(4, 3, 64, 64),
        "labels": torch.randint(0, 10, (4,)),
    }


@entry
def wav2vec2() -> Made:
    from transformers import Wav2Vec2Config, Wav2Vec2ForSequenceClassification

    # Masks drawn by numpy and layers left out at random make no single graph.
    config = Wav2Vec2Config(
        vocab_size=32, hidden_size=64, num_hidden_layers=3, num_attention_heads=4,
        intermediate_size=128, conv_dim=(32, 32, 32), conv_stride=(5, 4, 2), conv_kernel=(10, 8, 4),
        num_conv_pos_embeddings=16, num_conv_pos_embedding_groups=4, classifier_proj_size=32,
        apply_spec_augment=False, layerdrop=0.0, num_labels=10,
    )  # fmt: skip
    return Wav2Vec2ForSequenceClassification(config), {
        "input_values": torch.randn(2, 4000),
        "labels": torch.randint(0, 10, (2,)),
    }
