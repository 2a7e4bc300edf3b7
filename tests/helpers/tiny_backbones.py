"""Tiny random transformers models with tokenizers trained on the spot, for tests of real code."""

from pathlib import Path

import torch
from tokenizers import (
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from transformers import (
    BertConfig,
    BertModel,
    LlamaConfig,
    LlamaModel,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen3Config,
    Qwen3Model,
    RobertaConfig,
    RobertaModel,
)

from vrm_pyro.backbone import TransformerBackbone, wrap_model

_TEXT = (
    "the a one two three small large old new red green blue bird river house garden stone answer "
    "question please write tell me about how why does not is are was very good bad short long "
    "clear useful wrong safe honest polite story number light water fire wind city road"
)
WORDS = _TEXT.split()

CHAT_TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}<|end|>"
    "{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)

CHATML_TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def text(seed: int, words: int) -> str:
    """Return ``words`` words, the same for the same seed."""
    generator = torch.Generator().manual_seed(seed)
    return " ".join(WORDS[i] for i in torch.randint(len(WORDS), (words,), generator=generator))


def bert_tokenizer() -> PreTrainedTokenizerFast:
    """Return a lower-casing word-piece tokenizer with [CLS] a [SEP] b [SEP] and segment ids."""
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    # Written down, not trained: the word-piece trainer breaks ties differently in every run.
    characters = "abcdefghijklmnopqrstuvwxyz0123456789.,:;!?'"
    pieces = [*special, *characters, *(f"##{c}" for c in characters[:36]), *WORDS]
    vocabulary = {piece: index for index, piece in enumerate(dict.fromkeys(pieces))}
    backend = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    backend.normalizer = normalizers.BertNormalizer(lowercase=True)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.decoder = decoders.WordPiece()
    ids = {token: backend.token_to_id(token) for token in special}
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS]:0 $A:0 [SEP]:0",
        pair="[CLS]:0 $A:0 [SEP]:0 $B:1 [SEP]:1",
        special_tokens=[("[CLS]", ids["[CLS]"]), ("[SEP]", ids["[SEP]"])],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
        model_max_length=128,
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
    )


def bytes_tokenizer(
    single: str, pair: str, special: list[str], chat_template: str | None = None, **names: str
) -> PreTrainedTokenizerFast:
    """Return a byte-level tokenizer with the given special tokens around texts."""
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator([" ".join(WORDS)], trainer)
    backend.post_processor = processors.TemplateProcessing(
        single=single,
        pair=pair,
        special_tokens=[(token, backend.token_to_id(token)) for token in special],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, model_max_length=256, chat_template=chat_template, **names
    )


def llama_tokenizer(chat: bool) -> PreTrainedTokenizerFast:
    """Return a byte-level tokenizer that begins texts with <s>; padding shares </s>."""
    return bytes_tokenizer(
        "<s> $A",
        "<s> $A <s> $B",
        ["<s>", "</s>", "<|user|>", "<|assistant|>", "<|system|>", "<|end|>"],
        CHAT_TEMPLATE if chat else None,
        bos_token="<s>",
        eos_token="</s>",
        pad_token="</s>",
    )


def qwen3_tokenizer() -> PreTrainedTokenizerFast:
    """Return a byte-level tokenizer without an opening token, with a ChatML template."""
    return bytes_tokenizer(
        "$A",
        "$A $B",
        ["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        CHATML_TEMPLATE,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
    )


def roberta_tokenizer() -> PreTrainedTokenizerFast:
    """Return a byte-level tokenizer with <s> a </s></s> b </s>."""
    return bytes_tokenizer(
        "<s> $A </s>",
        "<s> $A </s> </s> $B </s>",
        ["<s>", "<pad>", "</s>"],
        bos_token="<s>",
        eos_token="</s>",
        cls_token="<s>",
        sep_token="</s>",
        pad_token="<pad>",
    )


def tiny_model(kind: str) -> PreTrainedModel:
    """Return a random BERT, RoBERTa, Llama or Qwen3 of width 32, the same every time."""
    torch.manual_seed(0)
    # Larger than usual at the start, so that attention and positions are felt in the states.
    size = {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "initializer_range": 0.3,
    }
    if kind == "bert":
        return BertModel(BertConfig(vocab_size=300, max_position_embeddings=128, **size)).eval()
    if kind == "roberta":
        positions = {"max_position_embeddings": 130, "pad_token_id": 1}
        return RobertaModel(RobertaConfig(vocab_size=400, **positions, **size)).eval()
    if kind == "qwen3":
        own = {"vocab_size": 400, "max_position_embeddings": 256, "head_dim": 16}
        return Qwen3Model(Qwen3Config(**own, num_key_value_heads=1, **size)).eval()
    return LlamaModel(LlamaConfig(vocab_size=400, max_position_embeddings=256, **size)).eval()


def tiny_tokenizer(kind: str) -> PreTrainedTokenizerFast:
    """Return the tokenizer of :func:`tiny_model`; ``llama-chat`` and ``qwen3`` have a template."""
    if kind == "bert":
        return bert_tokenizer()
    if kind == "roberta":
        return roberta_tokenizer()
    return qwen3_tokenizer() if kind == "qwen3" else llama_tokenizer(kind == "llama-chat")


def tiny_backbone(kind: str = "bert", **settings: object) -> TransformerBackbone:
    """Return a backbone of kind bert, roberta, llama, llama-chat or qwen3, by default whole."""
    settings = {"layer": None, "max_length": 120, "dtype": "float32", "device": "cpu", **settings}
    model = tiny_model(kind.partition("-")[0])
    return wrap_model(model, tiny_tokenizer(kind), name=f"tiny-{kind}", source="test", **settings)


def save_tiny_backbone(folder: Path, kind: str = "bert") -> Path:
    """Write a tiny model and its tokenizer as ``from_pretrained`` reads them."""
    tiny_model(kind.partition("-")[0]).save_pretrained(folder)
    tiny_tokenizer(kind).save_pretrained(folder)
    return folder
